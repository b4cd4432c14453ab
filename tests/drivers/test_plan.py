"""The planner: which registers are read in which request."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from edge_agent.types import Kind
from edge_agent_drivers.codec import Field
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.columns import plan_groups
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.outline import outline
from edge_agent_drivers.modbus.plan import Span, coalesce
from edge_agent_drivers.modbus.settings import ModbusMachine

TYPES = {1: "uint16", 2: "float32", 4: "float64"}


def span(column: int, table: Table, address: int, count: int) -> Span:
    count = 1 if table.bits else count
    how = None if table.bits else Field(TYPES[count])
    return Span(f"t{column}", column, table, address, count, how)


SPANS = st.lists(
    st.tuples(st.sampled_from(Table), st.integers(0, 80), st.sampled_from([1, 2, 4])), max_size=40
).map(lambda places: [span(i, *place) for i, place in enumerate(places)])
LIMITS = st.builds(Limits, st.integers(4, 30), st.integers(1, 40), st.integers(0, 6))


@given(SPANS, LIMITS)
def test_every_value_lies_whole_in_exactly_one_request_within_the_limits(
    spans: list[Span], limits: Limits
) -> None:
    """No value is lost, read twice or cut; no request is longer than the device takes."""
    blocks = coalesce(spans, limits)
    assert sorted(s.column for block in blocks for s in block.spans) == [s.column for s in spans]
    for block in blocks:
        assert block.count <= limits.of(block.table)
        for s in block.spans:
            assert s.table is block.table
            assert block.address <= s.address
            assert s.address + s.count <= block.address + block.count


@given(SPANS, LIMITS)
def test_without_a_gap_only_declared_addresses_are_read(spans: list[Span], limits: Limits) -> None:
    """With max_gap 0 no request touches an address nobody asked for."""
    declared = {(s.table, s.address + i) for s in spans for i in range(s.count)}
    blocks = coalesce(spans, Limits(limits.registers, limits.bits, 0))
    read = {(block.table, block.address + i) for block in blocks for i in range(block.count)}
    assert read == declared


@given(SPANS, LIMITS, st.data())
def test_a_refused_address_is_never_read_across(
    spans: list[Span], limits: Limits, data: st.DataObject
) -> None:
    """However wide a gap is allowed, a request does not touch what was refused between two values."""
    refused = [s for s in spans if data.draw(st.booleans())]
    wanted = [s for s in spans if s not in refused]
    needed = {(s.table, s.address + i) for s in wanted for i in range(s.count)}
    avoided = {(s.table, s.address + i) for s in refused for i in range(s.count)} - needed
    read = {
        (block.table, block.address + i)
        for block in coalesce(wanted, limits, refused=refused)
        for i in range(block.count)
    }
    assert not read & avoided


@given(SPANS, LIMITS)
def test_the_plan_depends_only_on_the_values(spans: list[Span], limits: Limits) -> None:
    """The same tags in another order give the same requests."""
    there = [(b.key, {s.column for s in b.spans}) for b in coalesce(spans, limits)]
    back = [(b.key, {s.column for s in b.spans}) for b in coalesce(list(reversed(spans)), limits)]
    assert [key for key, _ in there] == [key for key, _ in back]


def machine(**keys: Any) -> ModbusMachine:
    return ModbusMachine.model_validate({"driver": "modbus", "url": "tcp://127.0.0.1", **keys})


def test_the_plan_of_a_pump_can_be_printed() -> None:
    """People see the requests per scan rate and what is read for nothing."""
    pump = machine(
        max_gap=2,
        tags={
            "vibration": {"address": "holding:100", "type": "float32"},
            "current": {"address": "holding:102", "type": "float32"},
            "status": {"address": "holding:105", "bits": {0: "ready", 3: "tripped"}},
            "temperature": {"address": "input:12", "type": "int16"},
            "running": {"address": "coil:3"},
            "serial": {"address": "holding:200", "type": "string", "length": 15, "every": "1h"},
        },
    )
    planned = outline(plan_groups(pump), pump.limits, pump.endpoint)
    assert [(one.every, one.what, one.addresses, one.wasted) for one in planned] == snapshot(
        [
            (1.0, "holding:100-105", 6, 1),
            (1.0, "input:12", 1, 0),
            (1.0, "coil:3", 1, 0),
            (3600.0, "holding:200-207", 8, 0),
        ]
    )


def test_named_bits_are_state_tags_beside_their_word() -> None:
    """`bits` gives TAG.name of kind state, and keeps the word under the tag's own name, as a state too."""
    [plan] = plan_groups(machine(tags={"status": {"address": "holding:40", "bits": {0: "ready"}}}))
    assert [(tag.name, tag.kind, tag.type) for tag in plan.group.tags] == [
        ("status", Kind.STATE, "uint16"),
        ("status.ready", Kind.STATE, "bool"),
    ]


def test_groups_follow_scan_rates_in_the_order_of_the_configuration() -> None:
    """One group per scan rate; the machine's own rate is the default."""
    tags = {
        "a": {"address": "holding:0", "every": "10s"},
        "b": {"address": "holding:1"},
        "c": {"address": "holding:2", "every": "10s"},
    }
    plans = plan_groups(machine(every="500ms", tags=tags))
    assert [(plan.group.every, plan.group.names) for plan in plans] == [(10.0, ("a", "c")), (0.5, ("b",))]
