"""The columns of a machine's read groups: where each value lies, and what is made of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.types import Kind, ReadGroup, Store, Tag
from edge_agent_drivers.counters import rate_unit
from edge_agent_drivers.modbus.derive import Bit, Held, Power, Rate, Step, Text
from edge_agent_drivers.modbus.plan import Span
from edge_agent_drivers.modbus.settings import ModbusMachine, tag_fields
from edge_agent_drivers.modbus.tags import ModbusTag
from edge_agent_drivers.scaling import Scaling


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One read group: where its columns come from, and what is made of them."""

    group: ReadGroup
    spans: tuple[Span, ...]
    steps: tuple[Step, ...]


def plan_groups(settings: ModbusMachine) -> tuple[GroupPlan, ...]:
    """The read groups of a machine, one per scan rate, in the order of the configuration."""
    exponents = {tag.factor for tag in settings.tags.values() if tag.factor is not None}
    by_rate: dict[float, _Group] = {}
    for name, tag in settings.tags.items():
        every = settings.rate_of(tag)
        group = by_rate.setdefault(every, _Group(settings, exponents))
        group.add(name, tag)
    return tuple(group.plan(every) for every, group in by_rate.items())


class _Group:
    """The columns of one read group in the making."""

    def __init__(self, settings: ModbusMachine, exponents: set[str]) -> None:
        self._settings, self._exponents = settings, exponents
        self._columns: list[Tag] = []
        self._spans: list[Span] = []
        self._steps: list[Step] = []

    def plan(self, every: float) -> GroupPlan:
        return GroupPlan(ReadGroup(tuple(self._columns), every), tuple(self._spans), tuple(self._steps))

    def add(self, name: str, tag: ModbusTag) -> None:
        table, column = tag.address.table, len(self._columns)
        address = tag.address.on_wire(self._settings.address_base)
        exponent = name in self._exponents
        how = None if table.bits else tag_fields(self._settings, tag, exponent=exponent)
        self._spans.append(Span(name, column, table, address, tag.count, how))
        self._columns.append(tag.tag(name, tag.wire_type))
        if exponent:
            self._steps.append(Held(name, column))
        power = _power(tag, column)
        if power is not None:
            self._steps.append(power)
        if tag.rate is not None:
            self._rate(name, tag, column, power)
        if tag.names:
            self._text(column, f"{name}.text", tag.names, tag)
        self._bits(name, tag, column)

    def _rate(self, name: str, tag: ModbusTag, counter: int, power: Power | None) -> None:
        per = tag.rate or 1.0
        numerator, denominator, _ = (None if power else tag.scaled) or Scaling(1, 1, 0.0)
        modulus = abs(tag.rollover * numerator / denominator) if tag.rollover else None
        made = Tag(f"{name}.rate", unit=rate_unit(tag.unit, per), max_interval=tag.max_interval)
        self._steps.append(Rate(name, counter, len(self._columns), per, modulus, power))
        self._columns.append(made)

    def _bits(self, name: str, tag: ModbusTag, word: int) -> None:
        for first, last, bit in tag.named_bits:
            column, made = len(self._columns), f"{name}.{bit.name}"
            self._steps.append(Bit(word, first, last, column))
            type_ = "bool" if first == last else "uint16" if last - first < 16 else "uint32"
            names = tuple(sorted(bit.enum.items()))
            self._columns.append(
                Tag(made, Kind.STATE, type_, label=bit.label, max_interval=tag.max_interval, names=names)
            )
            if names:
                self._text(column, f"{made}.text", names, tag)

    def _text(self, number: int, name: str, names: tuple[tuple[int, str], ...], tag: ModbusTag) -> None:
        self._steps.append(Text(number, len(self._columns), dict(names)))
        made = Tag(name, Kind.STATE, "string", store=Store.STRING, max_interval=tag.max_interval)
        self._columns.append(made)


def _power(tag: ModbusTag, column: int) -> Power | None:
    if tag.factor is None:
        return None
    sign = 1 if tag.scale_from is not None else -1
    return Power(column, tag.factor, sign, tag.scaled or Scaling(1, 1, 0.0), tag.range)
