"""Passwords and tokens are kept out of every message and every line that is shown."""

from __future__ import annotations

import difflib
import re

_KEY = re.compile(r"([\w-]+)(['\"]?\s*:\s+)(?!!secret\b)(?!['\"]?\$\{\w+\})(\S.*)")
_USERINFO = re.compile(r"//[^/@\s'\"]*@")
_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "secret",
    "credential",
    "api_key",
    "private_key",
)


def looks_secret(key: str) -> bool:
    """Whether a key, perhaps mistyped, is probably that of a secret."""
    folded = key.lower().replace("-", "_")
    if any(word in folded for word in ("pass", "pwd", "token", "secret", "credential")):
        return True
    return bool(difflib.get_close_matches(folded, _WORDS, n=1, cutoff=0.75))


def masked(line: str) -> str:
    """A source line fit to be shown: what stands behind a key that looks secret is left out."""
    line = _USERINFO.sub("//***@", line)
    for match in _KEY.finditer(line):
        if looks_secret(match[1]):
            return line[: match.start(3)] + "***"
        inner = masked(match[3])
        if inner != match[3]:
            return line[: match.start(3)] + inner
    return line


def without_userinfo(text: str) -> str:
    """A message without the user and password of any URL in it."""
    return _USERINFO.sub("//***@", text)
