"""The planner's rules for devices that are particular: whole blocks, aligned blocks, holes, stretches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent_drivers.codec import Field
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.columns import plan_groups
from edge_agent_drivers.modbus.endpoint import parse_endpoint
from edge_agent_drivers.modbus.limits import Limits, Stretch
from edge_agent_drivers.modbus.outline import line_time, outline
from edge_agent_drivers.modbus.plan import Block, Span, coalesce, halves
from edge_agent_drivers.modbus.settings import ModbusMachine
from tests.drivers.test_plan import SPANS, machine, span


def requests(**keys: Any) -> list[str]:
    """What is read, in order."""
    made = machine(**keys)
    return [one.what for one in outline(plan_groups(made), made.limits, made.endpoint)]


def values(*addresses: int, type_: str = "uint16", **more: Any) -> dict[str, Any]:
    return {f"t{address}": {"address": f"holding:{address}", "type": type_, **more} for address in addresses}


def read_addresses(blocks: list[Block]) -> set[tuple[Table, int]]:
    return {(block.table, block.address + i) for block in blocks for i in range(block.count)}


def test_single_reads_each_value_alone() -> None:
    """block: single asks for one value at a time; the same value twice is one request."""
    tags = {
        **values(0, 1, 2),
        "again": {"address": "holding:1", "mask": 0x0F},
        "f": values(4, type_="float32")["t4"],
    }
    assert requests(block="single", tags=tags) == ["holding:0", "holding:1", "holding:2", "holding:4-5"]


def test_exact_reads_each_value_or_each_declared_block() -> None:
    """block: exact asks for each value, and for each of `blocks` as a whole, whatever lies in it."""
    tags = values(0, 1, 12, 17, 30)
    assert requests(block="exact", blocks=["holding:10-19"], tags=tags) == [
        "holding:0", "holding:1", "holding:10-19", "holding:30",
    ]  # fmt: skip


def test_a_block_is_read_whole_and_alone() -> None:
    """Without block: exact the values around a block are still joined, but never with it or across it."""
    tags = values(8, 9, 12, 20, 21)
    there = requests(blocks=["holding:10-19"], max_gap=16, tags=tags)
    assert there == ["holding:8-9", "holding:10-19", "holding:20-21"]
    assert requests(blocks=["holding:10-19"], max_gap=16, tags=values(8, 9, 20, 21)) == [
        "holding:8-9", "holding:20-21",
    ]  # fmt: skip


def test_aligned_reads_whole_blocks() -> None:
    """block: aligned begins and ends at multiples of block_size, and joins neighbours up to the maximum."""
    tags = values(1, 5, 6, type_="uint16") | values(8, type_="float32")
    assert requests(block="aligned", block_size=2, tags=tags) == ["holding:0-1", "holding:4-9"]
    assert requests(block="aligned", block_size=20, max_registers=20, tags=values(21, 39, 41)) == [
        "holding:20-39", "holding:40-59",
    ]  # fmt: skip


def test_gaps_are_bridged_only_within_a_readable_stretch_and_over_no_hole() -> None:
    """A wide max_gap joins 0 and 4, but not over the hole at 6, and not into the next stretch."""
    tags = values(0, 4, 8, 60, 102)
    readable = ["holding:0-99", "holding:100-199"]
    assert requests(max_gap=60, readable=readable, holes=["holding:6"], tags=tags) == [
        "holding:0-4", "holding:8-60", "holding:102",
    ]  # fmt: skip
    assert requests(max_gap=60, readable=readable, tags=values(99, 100)) == ["holding:99", "holding:100"]


def test_ranges_count_as_addresses_do() -> None:
    """With address_base 1, and in Modicon notation, ranges mean the same registers as addresses."""
    one = requests(address_base=1, block="exact", blocks=["holding:11-20"], tags=values(12))
    assert one == ["holding:10-19"]
    assert requests(block="exact", blocks=["400011-400020"], tags=values(12)) == ["holding:10-19"]
    assert requests(block="exact", blocks=[["holding:10", "holding:0x13"]], tags=values(12)) == [
        "holding:10-19"
    ]


RULES = st.builds(
    Limits,
    st.integers(8, 30),
    st.integers(8, 40),
    st.integers(0, 6),
    st.sampled_from(["joined", "exact", "single", "aligned"]),
    st.just(1),
    st.just((Stretch(Table.HOLDING, 16, 24), Stretch(Table.INPUT, 40, 48))),
    st.just(()),
    st.just((Stretch(Table.HOLDING, 30, 33), Stretch(Table.COIL, 10, 11))),
).flatmap(
    lambda rules: st.sampled_from([2, 4]).map(
        lambda size: Limits(**{**vars(rules), "size": size if rules.block == "aligned" else 1})
    )
)


def possible(spans: list[Span], rules: Limits) -> list[Span]:
    """Those that the settings would let through: not cut by a block, not in a hole."""
    kept = []
    for one in spans:
        start, end, whole = rules.extent(one.table, one.address, one.count)
        cut = any(
            b.meets(one.table, start, end) and not (whole and (b.start, b.end) == (start, end))
            for b in rules.blocks
        )
        if not cut and not any(hole.meets(one.table, start, end) for hole in rules.holes):
            kept.append(one)
    return kept


@given(SPANS, RULES)
def test_whatever_the_rules_every_value_is_read_once_and_nothing_forbidden(
    spans: list[Span], rules: Limits
) -> None:
    """Each value lies whole in one request; none is too long, touches a hole or part of a block."""
    wanted = possible(spans, rules)
    blocks = coalesce(wanted, rules)
    assert sorted(s.column for block in blocks for s in block.spans) == [s.column for s in wanted]
    for block in blocks:
        start, end = block.address, block.address + block.count
        assert block.count <= rules.of(block.table)
        assert all(start <= s.address and s.address + s.count <= end for s in block.spans)
        assert not any(hole.meets(block.table, start, end) for hole in rules.holes)
        for whole in rules.blocks:
            assert not whole.meets(block.table, start, end) or (whole.start, whole.end) == (start, end)
        if rules.block == "aligned" and not block.table.bits and not block.whole:
            assert (start % rules.size, end % rules.size) == (0, 0)
    if rules.gap == 0:
        extents = [(s.table, rules.extent(s.table, s.address, s.count)) for s in wanted]
        assert read_addresses(blocks) == {(t, i) for t, e in extents for i in range(e.start, e.end)}
    assert [b.key for b in coalesce(wanted[::-1], rules)] == [b.key for b in blocks]


@given(SPANS, RULES)
def test_no_register_is_read_twice_in_a_cycle(spans: list[Span], rules: Limits) -> None:
    """Values that share no register are read once; only an aligned block may come twice."""
    taken: set[tuple[Table, int]] = set()
    apart = []
    for one in possible(spans, rules):
        own = {(one.table, one.address + i) for i in range(one.count)}
        if not own & taken:
            apart.append(one)
            taken |= own
    blocks = coalesce(apart, rules)
    if rules.block != "aligned":
        assert sum(block.count for block in blocks) == len(read_addresses(blocks))


@given(SPANS, RULES)
def test_what_is_cut_to_find_a_refused_value_keeps_the_rules(spans: list[Span], rules: Limits) -> None:
    """Halving loses no value, ends, and never reads part of a block that is only given whole."""
    todo = coalesce(possible(spans, rules), rules)
    while todo:
        block = todo.pop()
        pieces = halves(block, rules)
        assert [s for piece in pieces for s in piece.spans] in ([], list(block.spans))
        if rules.block == "aligned" and pieces and not block.table.bits:
            # Two requests for one whole block would find nothing out.
            assert pieces[0].address + pieces[0].count <= pieces[1].address
        for piece in pieces:
            assert len(piece.spans) < len(block.spans)
            assert not block.whole
            if rules.block == "aligned" and not piece.table.bits and not piece.whole:
                assert (piece.address % rules.size, piece.count % rules.size) == (0, 0)
        todo += pieces


def fastest(work: Callable[[], object]) -> float:
    """Seconds of CPU of the fastest of three: the collector has a whole suite to go through at times."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


@pytest.mark.parametrize("block", [{}, {"block": "single"}, {"block": "aligned", "block_size": 2}])
def test_ten_thousand_tags_are_planned_in_a_second(block: dict[str, Any]) -> None:
    """The plan takes n log n steps: 10,000 values with 1,000 of them refused are planned within a second."""
    rules = Limits(125, 2000, 4, **({"block": block["block"], "size": 2} if block else {}))
    spans = [
        Span(f"t{i}", i, Table.HOLDING, (i * 7919 % 10_000) * 4, 2, Field("float32")) for i in range(10_000)
    ]
    assert fastest(lambda: coalesce(spans[1000:], rules, refused=spans[:1000])) < 1


def test_ten_thousand_tags_of_yaml_are_planned_in_a_second() -> None:
    """From settings to requests: 10,000 tags within a second, reading them from YAML not counted."""
    made: ModbusMachine = machine(tags=values(*range(0, 20_000, 2), type_="float32"))
    planned: list[Any] = []
    assert fastest(lambda: planned.extend(outline(plan_groups(made), made.limits, made.endpoint))) < 1
    assert len(planned) == 3 * -(-20_000 // 64)


def test_the_time_on_a_serial_line_is_that_of_the_bytes() -> None:
    """At 9600 baud and 8E1, 2 registers take 8 + 9 characters of 11 bits and two pauses of 3.5."""
    line = parse_endpoint("rtu:///dev/ttyUSB0?baudrate=9600")
    [block] = coalesce([span(0, Table.HOLDING, 0, 2)], Limits(125, 2000, 0))
    assert line_time(block, line) == pytest.approx((8 + 9 + 7) * 11 / 9600)
