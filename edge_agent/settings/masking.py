"""Passwords and tokens are kept out of every message and every line that is shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_KEY = re.compile(r"([\w-]+)(['\"]?\s*:\s+)(?!!secret\b)(?!['\"]?\$\{\w+\})(\S.*)")
_USERINFO = re.compile(r"//[^/@\s'\"]*@")
_OPEN = re.compile(r"(\s*(?:- +)?)([\w-]+)['\"]?\s*:\s*(?:[|>][-+\d]*)?\s*(?:#.*)?")
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


def masked(lines: Sequence[str], index: int) -> str:
    """A source line fit to be shown: what belongs to a key that looks secret is left out."""
    line = lines[index]
    if _continues_secret(lines, index):
        return line[: len(line) - len(line.lstrip())] + "***"
    return _masked(line)


def _continues_secret(lines: Sequence[str], index: int) -> bool:
    """Whether a line is (part of) the value of a secret's key that stands some lines above."""
    for above in range(index - 1, max(-1, index - 20), -1):
        key = _OPEN.fullmatch(lines[above])
        if key and looks_secret(key[2]):
            between = (line for line in lines[above + 1 : index + 1] if line.strip())
            return all(len(line) - len(line.lstrip()) > len(key[1]) or ":" not in line for line in between)
    return False


def _masked(line: str) -> str:
    line = _USERINFO.sub("//***@", line)
    for match in _KEY.finditer(line):
        if looks_secret(match[1]):
            return line[: match.start(3)] + "***"
        inner = _masked(match[3])
        if inner != match[3]:
            return line[: match.start(3)] + inner
    return line


def without_userinfo(text: str) -> str:
    """A message without the user and password of any URL in it."""
    return _USERINFO.sub("//***@", text)
