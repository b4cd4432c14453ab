"""Node ids as people write them: `nsu=urn:press:plc;s=Press.OilTemperature`, `ns=2;i=1001`, `i=2258`."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_NODE = re.compile(r"(?:(nsu)=([^;]+);|(ns)=(\d+);)?([isgb])=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node id whose namespace may still be a URI, which is resolved at each connect."""

    kind: str
    """i (number), s (text), g (GUID) or b (bytes, base64)."""
    identifier: str
    namespace: int = 0
    uri: str | None = None

    def __str__(self) -> str:
        space = (
            f"nsu={self.uri};" if self.uri is not None else f"ns={self.namespace};" if self.namespace else ""
        )
        return f"{space}{self.kind}={self.identifier}"


def parse_node(written: object) -> NodeRef:
    """The node id somebody wrote. ValueError with the fix otherwise."""
    if isinstance(written, NodeRef):
        return written
    if not isinstance(written, str):
        raise ValueError("a node is written like nsu=urn:press:plc;s=Press.OilTemperature or ns=2;i=1001")
    match = _NODE.fullmatch(written.strip())
    if match is None:
        raise ValueError(_advice(written))
    _, uri, _, index, kind, identifier = match.groups()
    if index is not None and int(index) > 65535:
        raise ValueError(f"'{written}': namespace indexes end at 65535")
    _check_identifier(written, kind, identifier)
    return NodeRef(kind, identifier, int(index or 0), uri)


def _check_identifier(written: str, kind: str, identifier: str) -> None:
    try:
        if kind == "i" and not (identifier.isascii() and identifier.isdigit() and int(identifier) < 2**32):
            raise ValueError("i= takes a number from 0 to 4294967295; text goes with s=")
        if kind == "g":
            uuid.UUID(identifier)
        if kind == "b":
            base64.b64decode(identifier, validate=True)
    except (ValueError, binascii.Error) as problem:
        raise ValueError(f"'{written}' is not a node id: {problem}") from problem


def _advice(written: str) -> str:
    start = f"'{written}' is not a node id"
    if re.fullmatch(r"(ns|nsu)=[^;]+;?", written.strip()):
        return f"{start}: the identifier is missing; append ;s=NAME or ;i=NUMBER"
    if re.fullmatch(r"\d+", written.strip()):
        return f"{start}: write i={written.strip()}, or with its namespace ns=2;i={written.strip()}"
    if "=" not in written:
        return f"{start}: write s={written} with its namespace, as ns=2;s={written}"
    return f"{start}: write nsu=URI;s=NAME, ns=2;s=NAME or ns=2;i=NUMBER"


NodeField = Annotated[
    NodeRef,
    BeforeValidator(parse_node),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(nsu=[^;]+;|ns=\d+;)?[isgb]=.+$",
            "examples": ["nsu=urn:press:plc;s=Press.OilTemperature", "ns=2;i=1001"],
        }
    ),
]
"""A node id with its namespace as URI (nsu=) or index (ns=)."""
