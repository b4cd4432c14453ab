"""Types of one server's own: the layout of its structures and the names of its enumerations.

Not asyncua's load_data_type_definitions: it runs code made of what the server says, and keeps the classes
for the whole process by a number that means something else on the next server.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import Primitives, unpack_uatype

from edge_agent_drivers.opcua.session import NodeId, Session
from edge_agent_drivers.opcua.variants import Structure

_STRUCTURE, _INT32, _LAST_BUILT_IN = 22, 6, 25
_DEEPEST = 20
_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: int
    """The built-in type it is encoded as; 22 with a `layout`."""
    array: bool
    optional: bool
    layout: NodeId | None = None


@dataclass(frozen=True, slots=True)
class _Layout:
    fields: tuple[_Field, ...]
    kind: int
    """As StructureType: 0 plain, 1 with optional fields, 2 union."""


class Unknown(Exception):
    """A structure cannot be decoded; says why."""


class Types:
    """The types of one server that its tags need; learned at each connect, for they may have changed."""

    def __init__(self) -> None:
        self._layouts: dict[NodeId, _Layout] = {}
        self._by_encoding: dict[NodeId, NodeId] = {}
        self._kinds: dict[NodeId, int] = {}
        self._enumerations: dict[NodeId, Mapping[int, str]] = {}
        self._last: tuple[Any, Structure | str] = (None, "")

    def forget(self) -> None:
        """Start over with a new connection."""
        for known in (self._layouts, self._by_encoding, self._kinds, self._enumerations):
            known.clear()

    async def learn(self, session: Session, nodes: Sequence[NodeId]) -> list[Mapping[int, str] | None]:
        """Learn the data types of variables; the names of each that is an enumeration.

        DeviceUnreachable where the server does not answer; what it does not tell is simply not known.
        """
        answers = await session.read(nodes, AttributeIds.DataType)
        types = [_node_of(answer) for answer in answers]
        waiting = [one for one in dict.fromkeys(types) if one is not None]
        for _ in range(_DEEPEST):
            waiting = [one for one in dict.fromkeys(waiting) if not self._known(one)]
            if not waiting:
                break
            waiting = await self._learn(session, waiting)
        return [self._enumerations.get(one) if one is not None else None for one in types]

    def _known(self, one: NodeId) -> bool:
        return _built_in(one) is not None or one in self._kinds

    async def _learn(self, session: Session, types: Sequence[NodeId]) -> list[NodeId]:
        """Read the definitions of `types`; the types their fields have."""
        further: list[NodeId] = []
        plain: list[NodeId] = []
        definitions = await session.read(types, AttributeIds.DataTypeDefinition)
        for one, answer in zip(types, definitions, strict=True):
            definition = answer.Value.Value if answer.Value is not None else None
            if isinstance(definition, ua.EnumDefinition):
                self._kinds[one] = _INT32
                self._enumerations[one] = {
                    int(field.Value): str(field.Name or (field.DisplayName and field.DisplayName.Text))
                    for field in definition.Fields or ()
                }
            elif isinstance(definition, ua.StructureDefinition):
                self._kinds[one] = _STRUCTURE
                self._by_encoding[_plain(definition.DefaultEncodingId)] = one
                further += [_plain(field.DataType) for field in definition.Fields or ()]
                self._layouts[one] = _layout(definition)
            else:
                plain.append(one)
        await self._learn_plain(session, plain)
        return further

    async def _learn_plain(self, session: Session, types: Sequence[NodeId]) -> None:
        """Types without a definition: older enumerations, and names for built-in types, as Duration."""
        if not types:
            return
        strings = await session.translate(
            [(one, [(0, name)]) for one in types for name in ("EnumStrings", "EnumValues")]
        )
        lists = [found[0] if found else None for found in strings]
        values = iter(await session.read([node for node in lists if node is not None]))
        for one, pair in zip(types, zip(lists[::2], lists[1::2], strict=True), strict=True):
            told = [next(values).Value for node in pair if node is not None]
            if told:
                self._kinds[one] = _INT32
                self._enumerations[one] = _names(told[0].Value if told[0] is not None else None)
            else:
                self._kinds[one] = await session.built_in_of(one)

    def decode(self, sent: Any) -> Structure | str:
        """The fields of a structure as it came; a clause that says why it cannot be told."""
        if self._last[0] is not sent:
            # Several tags are fields of the same structure.
            self._last = sent, self._decoded(sent)
        return self._last[1]

    def _decoded(self, sent: Any) -> Structure | str:
        if dataclasses.is_dataclass(sent) and not isinstance(sent, ua.ExtensionObject):
            return _of_dataclass(sent)
        if not isinstance(sent, ua.ExtensionObject) or sent.Body is None:
            return "it holds an empty structure"
        one = self._by_encoding.get(_plain(sent.TypeId))
        if one is None:
            return f"it holds a structure of a type the server does not describe ({sent.TypeId.to_string()})"
        try:
            body = Buffer(sent.Body)
            structure = self._decode(one, body, 0)
            if len(body):
                return f"its structure is {len(body)} bytes longer than the server's description of it"
        except Unknown as unknown:
            return f"its structure cannot be decoded: {unknown}"
        except Exception as failure:  # noqa: BLE001 (asyncua raises anything on bytes that do not fit)
            return f"its structure does not fit the server's description of it ({type(failure).__name__})"
        return structure

    def _decode(self, one: NodeId, body: Buffer, depth: int) -> Structure:
        layout = self._layouts.get(one)
        if layout is None or depth > _DEEPEST:
            raise Unknown("the server does not describe all types in it")
        fields = layout.fields
        if layout.kind == 1:
            mask = int(Primitives.UInt32.unpack(body))
            optional = [field for field in fields if field.optional]
            absent = {field.name for bit, field in enumerate(optional) if not mask >> bit & 1}
        elif layout.kind == 2:
            chosen = int(Primitives.UInt32.unpack(body))
            absent = {field.name for number, field in enumerate(fields, 1) if number != chosen}
        elif layout.kind == 0:
            absent = set()
        else:
            raise Unknown("structures whose fields have subtypes are not supported")
        return Structure(
            {
                field.name: (field.kind, None) if field.name in absent else self._value(field, body, depth)
                for field in fields
            }
        )

    def _value(self, field: _Field, body: Buffer, depth: int) -> tuple[int, Any]:
        kind = self._kinds.get(field.layout, 0) if field.layout is not None else field.kind
        if not 0 < kind <= _LAST_BUILT_IN:
            raise Unknown(f"the type of {field.name} is not known")

        def one() -> Any:
            if kind == _STRUCTURE and field.layout is not None:
                return self._decode(field.layout, body, depth + 1)
            return unpack_uatype(ua.VariantType(kind), body)

        if not field.array:
            return kind, one()
        length = int(Primitives.Int32.unpack(body))
        if length > min(_LONGEST, len(body)):
            raise Unknown(f"{field.name} would have {length} elements")
        return kind, [one() for _ in range(length)] if length >= 0 else None


def _layout(definition: ua.StructureDefinition) -> _Layout:
    return _Layout(
        tuple(
            _Field(
                str(field.Name),
                _built_in(_plain(field.DataType)) or 0,
                int(field.ValueRank) >= 1,
                bool(field.IsOptional),
                None if _built_in(_plain(field.DataType)) else _plain(field.DataType),
            )
            for field in definition.Fields or ()
        ),
        int(definition.StructureType),
    )


def _built_in(one: NodeId) -> int | None:
    """The number of a built-in type, if it is one that is encoded as itself."""
    if one.NamespaceIndex or not isinstance(one.Identifier, int):
        return None
    if one.Identifier == ObjectIds.BaseDataType:
        return 24
    return one.Identifier if 0 < one.Identifier <= _LAST_BUILT_IN else None


def _plain(one: Any) -> NodeId:
    """Equal for equal nodes, however they were encoded."""
    return ua.NodeId(one.Identifier, one.NamespaceIndex)


def _node_of(answer: Any) -> NodeId | None:
    value = answer.Value.Value if answer.Value is not None else None
    return _plain(value) if isinstance(value, ua.NodeId) else None


def _names(value: Any) -> Mapping[int, str]:
    """EnumStrings (texts, numbered from 0) or EnumValues."""
    found: dict[int, str] = {}
    for number, one in enumerate(value if isinstance(value, list) else ()):
        if isinstance(one, ua.EnumValueType):
            found[int(one.Value)] = str(one.DisplayName.Text if one.DisplayName else "")
        elif isinstance(one, ua.LocalizedText):
            found[number] = str(one.Text or "")
    return found


_PYTHON = (
    (bool, 1),
    (Enum, _INT32),
    (int, 8),
    (float, 11),
    (str, 12),
    (datetime, 13),
    (ua.LocalizedText, 21),
)


def _of_dataclass(sent: Any) -> Structure:
    """A structure of the standard itself (Range, EUInformation), which asyncua has decoded."""
    fields: dict[str, tuple[int, Any]] = {}
    for field in dataclasses.fields(sent):
        value = getattr(sent, field.name)
        first = value[0] if isinstance(value, list) and value else value
        kind = next((kind for type_, kind in _PYTHON if isinstance(first, type_)), _STRUCTURE)
        fields[field.name] = kind, (value.value if isinstance(value, Enum) else value)
    return Structure(fields)
