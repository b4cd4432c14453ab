"""Browse paths as people write them: `Line1/Temperature`, `nsu=urn:plant;Line1/*/Level`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_RESERVED = "/*?:&"


@dataclass(frozen=True, slots=True)
class Step:
    """One browse name of a path. Without index and URI, a name in any namespace."""

    name: str
    """As written, escapes taken out unless `pattern`."""
    pattern: str | None = None
    """A regular expression where the name has wildcards."""
    namespace: int | None = None
    uri: str | None = None

    @property
    def exact(self) -> bool:
        """Whether it can only be one browse name."""
        return self.pattern is None and (self.namespace is not None or self.uri is not None)

    def fits(self, name: str, namespace: int, uri: str) -> bool:
        """Whether a node with this browse name is on the path."""
        if self.namespace is not None and self.namespace != namespace:
            return False
        if self.namespace is None and self.uri is not None and self.uri != uri:
            return False
        return re.fullmatch(self.pattern, name) is not None if self.pattern is not None else name == self.name


@dataclass(frozen=True, slots=True)
class BrowsePath:
    """Browse names from the Objects folder down, or from the root where it was written with a `/` first."""

    steps: tuple[Step, ...]
    written: str
    root: bool = False

    @property
    def exact(self) -> bool:
        """Whether every step can only be one browse name, so that the server can translate the path."""
        return all(step.exact for step in self.steps)

    def __str__(self) -> str:
        return self.written


def parse_path(written: object) -> BrowsePath:
    """The browse path somebody wrote. ValueError with the fix otherwise."""
    if isinstance(written, BrowsePath):
        return written
    if not isinstance(written, str) or not written.strip("/ "):
        raise ValueError("a browse path is written like Line1/Temperature, from the Objects folder down")
    text, uri = written.strip(), None
    if text.startswith("nsu="):
        uri, found, text = text[4:].partition(";")
        if not found or not text or not uri:
            raise ValueError(f"'{written}': the path is missing; write nsu=URI;Line1/Temperature")
    if re.match(r"(ns=\d+;)?[isgb]=", text):
        raise ValueError(f"'{written}' is a node id: write it as node, not as browse")
    root = text.startswith("/")
    steps = [_step(name, uri, written) for name in _names(text)]
    if root and steps[0].name == "Objects":
        # Written either way it is the same path.
        root, steps = False, steps[1:]
        if not steps:
            raise ValueError(f"'{written}' is the Objects folder itself: append the names below it")
    return BrowsePath(tuple(steps), written.strip(), root)


def _names(text: str) -> list[str]:
    """The names between the /, with their escapes; a / first or last stands before or after nothing."""
    names = [""]
    for part in re.findall(r"&.|[^&]|&$", text, re.DOTALL):
        if part == "/":
            names.append("")
        else:
            names[-1] += part
    return names[not names[0] : len(names) - (not names[-1])]


def _step(text: str, uri: str | None, written: str) -> Step:
    index = re.match(r"(\d+):(.*)", text, re.DOTALL)
    name = index[2] if index else text
    if not name:
        raise ValueError(f"'{written}' has an empty name: names stand between single /")
    if index and int(index[1]) > 65535:
        raise ValueError(f"'{written}': namespace indexes end at 65535")
    parts = re.findall(r"&.|[^&]|&$", name, re.DOTALL)
    if any(part == "&" for part in parts):
        raise ValueError(f"'{written}': & escapes the character after it; write && for one &")
    plain = "".join(part[-1] for part in parts)
    pattern = None
    if "*" in parts or "?" in parts:
        pattern = "".join({"*": ".*", "?": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return Step(plain, pattern, int(index[1]) if index else None, None if index else uri)


def escaped(name: str) -> str:
    """A browse name as it is written within a path."""
    return "".join(f"&{character}" if character in _RESERVED else character for character in name)


PathField = Annotated[
    BrowsePath,
    BeforeValidator(parse_path),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {"type": "string", "examples": ["Line1/Temperature", "nsu=urn:plant:line;Line1/*/Temperature"]}
    ),
]
"""Browse names from the Objects folder down."""
