"""Single questions to an OPC UA server, for `browse`: reads only, and each answer is JSON.

    {"do": "children", "nodes": [NODE, ...]}               what is hierarchically below each
    {"do": "details", "nodes": [NODE, ...], "values": B}   type, unit, range and value of each variable

Nodes are written as in YAML (`nsu=urn:press:plc;s=Press.Temperature`). Answers of one question stay within a
server's limits and are short, so that the scans of a running agent go on between them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua.nodeid import NodeRef, parse_node
from edge_agent_drivers.opcua.session import Session

MOST_NODES = 50
"""Nodes of one question."""
_NODE_CLASS, _VALUE, _DATA_TYPE, _VALUE_RANK, _ACCESS = 2, 13, 14, 15, 18
_CURRENT_READ = 1
_UNIT, _RANGE = (0, "EngineeringUnits"), (0, "EURange")
_ENUMERATION = 29
_SHOWN_ELEMENTS = 8
TYPES: Mapping[int, str] = {
    1: "Boolean", 2: "SByte", 3: "Byte", 4: "Int16", 5: "UInt16", 6: "Int32", 7: "UInt32", 8: "Int64",
    9: "UInt64", 10: "Float", 11: "Double", 12: "String", 13: "DateTime", 14: "Guid", 15: "ByteString",
    16: "XmlElement", 17: "NodeId", 18: "ExpandedNodeId", 19: "StatusCode", 20: "QualifiedName",
    21: "LocalizedText", 22: "Structure", 23: "DataValue", 24: "BaseDataType", 25: "DiagnosticInfo",
    26: "Number", 27: "Integer", 28: "UInteger", _ENUMERATION: "Enumeration",
}  # fmt: skip
"""Numbers of the standard's types -> their names."""


async def answer(session: Session, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one question. DeviceRefused where it is none or the server refuses, DeviceUnreachable where the
    session has ended."""
    nodes = [_resolved(session, written) for written in _written(question)]
    try:
        if question.get("do") == "children":
            return {"children": await _children(session, nodes)}
        if question.get("do") == "details":
            return {"details": await _details(session, nodes, bool(question.get("values")))}
    except DeviceUnreachable as failure:
        session.check()  # a service the server does not offer is not the end of the session
        raise DeviceRefused(str(failure)) from failure
    raise DeviceRefused(
        f"'{question.get('do')}' is no question to an OPC UA server: there are children, details"
    )


def _written(question: Mapping[str, Any]) -> list[Any]:
    nodes = question.get("nodes")
    if not isinstance(nodes, list) or len(nodes) > MOST_NODES:
        raise DeviceRefused(f"a question names up to {MOST_NODES} nodes")
    return nodes


def _resolved(session: Session, written: object) -> Any:
    try:
        ref = parse_node(written)
    except ValueError as problem:
        raise DeviceRefused(str(problem)) from None
    node = session.resolve(ref)
    if node is None:
        raise DeviceRefused(f"the server has no namespace {ref.uri}")
    return node


async def _children(session: Session, nodes: Sequence[Any]) -> list[list[dict[str, Any]]]:
    return [
        [
            {
                "node": written(session, child.node),
                "name": child.name,
                "namespace": child.namespace,
                "variable": child.node_class == 2,
            }
            for child in children
        ]
        for children in await session.children(nodes)
    ]


def written(session: Session, node: Any) -> str:
    """A node id as people write it, with the URI of its namespace, which outlives a change of indexes."""
    kind, identifier = "i", node.Identifier
    if isinstance(identifier, bytes):
        kind, identifier = "b", base64.b64encode(identifier).decode()
    elif not isinstance(identifier, int):
        kind = "s" if isinstance(identifier, str) else "g"
    space = int(node.NamespaceIndex)
    uri = session.namespaces[space] if 0 < space < len(session.namespaces) else None
    return str(NodeRef(kind, str(identifier), space if uri is None else 0, uri))


async def _details(session: Session, nodes: Sequence[Any], values: bool) -> list[dict[str, Any]]:
    classes, kinds, ranks, access = [
        [_plain(one) for one in await session.read(nodes, attribute)]
        for attribute in (_NODE_CLASS, _DATA_TYPE, _VALUE_RANK, _ACCESS)
    ]
    sent = await session.read(nodes) if values else [None] * len(nodes)
    units, ranges = await _properties(session, nodes)
    names = {kind: await _type_name(session, kind) for kind in dict.fromkeys(kinds) if kind is not None}
    return [
        {
            "exists": node_class is not None,
            "type": names.get(kind, "unknown"),
            "array": (isinstance(rank, int) and rank >= 0) or (rank in (-3, -2) and _is_array(value)),
            "readable": not isinstance(rights, int) or bool(rights & _CURRENT_READ),
            "unit": unit,
            "range": limits,
            **(_shown(value) if values else {}),
        }
        for node_class, kind, rank, rights, value, unit, limits in zip(
            classes, kinds, ranks, access, sent, units, ranges, strict=True
        )
    ]


def _plain(sent: Any) -> Any:
    """The content of a DataValue; None where it has none or is bad."""
    if sent is None or sent.Value is None or (sent.StatusCode is not None and sent.StatusCode.is_bad()):
        return None
    return sent.Value.Value


def _is_array(sent: Any) -> bool:
    return isinstance(_plain(sent), list)


async def _type_name(session: Session, kind: Any) -> str:
    if kind.NamespaceIndex == 0 and kind.Identifier in TYPES:
        return TYPES[kind.Identifier]
    return TYPES.get(await session.built_in_of(kind), "Enumeration or abstract type")


async def _properties(
    session: Session, nodes: Sequence[Any]
) -> tuple[list[str | None], list[list[float] | None]]:
    """The unit and the engineering range of each node; None where it has none."""
    paths = [(node, [name]) for node in nodes for name in (_UNIT, _RANGE)]
    found = [targets[0] if targets else None for targets in await session.translate(paths)]
    known = [target for target in found if target is not None]
    values = iter(await session.read(known)) if known else iter(())
    contents = [_plain(next(values)) if target is not None else None for target in found]
    return [_unit(one) for one in contents[::2]], [_limits(one) for one in contents[1::2]]


def _unit(content: Any) -> str | None:
    text = getattr(getattr(content, "DisplayName", None), "Text", None)
    return str(text) if text else None


def _limits(content: Any) -> list[float] | None:
    low, high = getattr(content, "Low", None), getattr(content, "High", None)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return [float(low), float(high)] if isfinite(low) and isfinite(high) and low < high else None


def _shown(sent: Any) -> dict[str, Any]:
    """The value as JSON and as text for people, and the status where it is bad."""
    code = int(sent.StatusCode.value) if sent.StatusCode is not None else 0
    content = _plain(sent)
    status = None if not code & 0x80000000 else getattr(sent.StatusCode, "name", f"0x{code:08X}")
    if isinstance(content, list):
        return {
            "value": [_scalar(one) for one in content[:_SHOWN_ELEMENTS]],
            "length": len(content),
            "status": status,
        }
    return {"value": _scalar(content), "status": status}


def _scalar(content: Any) -> bool | int | float | str | None:
    if content is None or isinstance(content, bool | str):
        return content
    if isinstance(content, float):
        return content if isfinite(content) else str(content)
    if isinstance(content, int):
        return int(content)
    text = getattr(content, "Text", None)
    return str(text if isinstance(text, str) else content)[:200]
