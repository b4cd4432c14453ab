"""`edge-agent scan modbus`: which units answer, who they are, and what is in a range of addresses.

Reads only, one question at a time, slowly, and stops at the first sign that the device does not like it: a
connection it closes, an address that no longer answers, a row of "device failure" or "busy".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from edge_agent.contracts.plugs import Ask
from edge_agent_drivers import terminal
from edge_agent_drivers.modbus.address import parse_address
from edge_agent_drivers.modbus.search import PACE, Search, Span, Unit

FOUND, NOTHING, USAGE = 0, 1, 2
MOST_ADDRESSES = 1000
"""Addresses of one scan: more would take an hour of a machine's time."""
UNASKED_UNITS = 10
"""Unit ids that are tried without asking first."""
WARNING = (
    "Some old devices stop, restart or drop their other connections when they are asked what they do not "
    "expect. Do this when the machine may stop, not in production hours, and not on a safety controller."
)


async def survey(
    ask: Ask,
    device: str,
    *,
    unit_ids: str,
    ranges: Sequence[str],
    yes: bool,
    json_output: bool,
) -> int:
    """Look who answers, and what is in the ranges; the exit code. `device` is for people."""
    try:
        units, spans = parse_units(unit_ids), [parse_span(text) for text in ranges]
        _bounded(spans, len(units))
    except ValueError as problem:
        terminal.say(str(problem))
        return USAGE
    terminal.say(_announcement(device, units, spans))
    if (spans or len(units) > UNASKED_UNITS) and not yes:
        if not terminal.attended():
            terminal.say("Not asked: nobody is at a terminal to agree. With --yes it goes ahead.")
            return USAGE
        if not await terminal.confirmed("Go ahead?"):
            return NOTHING
    search = Search(ask)
    stopped = await search.run(units, spans)
    terminal.progress("")
    url = device.split(" ", 1)[0]
    if json_output:
        terminal.show(json.dumps(_document(url, search, stopped), ensure_ascii=False))
    else:
        _show(url, search)
    if stopped:
        terminal.say(stopped)
    return NOTHING if stopped or not search.found else FOUND


def parse_units(text: str) -> list[int]:
    """Unit ids from `1-10` or `1,3,5-8`. ValueError with what to write instead."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not 0 <= first <= last <= 255:
            raise ValueError(f"--unit-ids {text}: write 1-10 or 1,3,5-8, from 0 to 255")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def parse_span(text: str) -> Span:
    """A range from `holding:0-99`. ValueError with what to write instead."""
    start, _, end = text.partition("-")
    try:
        address = parse_address(start)
    except ValueError as problem:
        raise ValueError(f"--range {text}: {problem}") from None
    first = address.on_wire(0)
    last = first if not end else int(end) - (1 if address.modicon else 0) if end.isdigit() else -1
    if address.modicon and len(end) == 6 and end.isdigit():
        last = parse_address(end).on_wire(0)
    if not 0 <= first <= last <= 65535:
        raise ValueError(f"--range {text}: write it like holding:0-99, the lower address first")
    return Span(address.table, first, last)


def _bounded(spans: Sequence[Span], units: int) -> None:
    count = sum(len(span.addresses) for span in spans)
    if count > MOST_ADDRESSES:
        raise ValueError(
            f"{count} addresses are too many for one scan: {MOST_ADDRESSES} are the most, which take "
            f"{MOST_ADDRESSES * PACE / 60:.0f} minutes a unit. The manual's register list is the better way."
        )


def _announcement(device: str, units: Sequence[int], spans: Sequence[Span]) -> str:
    names = f"unit {units[0]}" if len(units) == 1 else f"units {_runs(units)}"
    lines = [f"This asks {device}:", f"- one register (holding:0) of {names}, and who the device is"]
    if spans:
        seconds = sum(len(span.addresses) for span in spans) * PACE
        listed = ", ".join(map(str, spans))
        lines.append(f"- each address of {listed} of every unit that answers: {seconds:.0f} s a unit")
    lines.append(f"One question at a time, {1 / PACE:.0f} a second; it only reads.")
    return "\n".join([*lines, WARNING])


def _runs(numbers: Sequence[int]) -> str:
    """1-10 for consecutive numbers, else a list."""
    if list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _document(url: str, search: Search, stopped: str) -> dict[str, Any]:
    return {
        "url": url,
        "asked": search.asked,
        "stopped": stopped or None,
        "units": [
            {
                "unit_id": unit.unit_id,
                "said": unit.said,
                "identification": dict(unit.identification),
                "registers": {str(address): value for address, value in unit.found.items()},
                "refused": unit.refused,
                "silent": unit.silent,
            }
            for unit in search.found
        ],
        "yaml": "\n".join(_yaml(url, search.found)),
    }


def _show(url: str, search: Search) -> None:
    if not search.found:
        terminal.say(f"No unit answers at {url}: try other --unit-ids, or a longer --timeout.")
        return
    for unit in search.found:
        who = ", ".join(unit.identification.values())
        terminal.say(f"unit {unit.unit_id} {unit.said}" + (f": {who}" if who else ""))
        if unit.refused or unit.silent:
            counts = f"{len(unit.found)} addresses answered, {unit.refused} refused, {unit.silent} silent"
            terminal.say(f"  {counts}")
    terminal.say(
        "Ready to paste below a line `site: NAME`; find types and byte orders with `edge-agent probe`:\n"
    )
    for line in _yaml(url, search.found):
        terminal.show(line)


def _yaml(url: str, units: Sequence[Unit]) -> list[str]:
    lines = ["machines:"]
    for unit in units:
        lines += [f"  unit-{unit.unit_id}:", "    driver: modbus", f'    url: "{url}"']
        lines.append(f"    unit_id: {unit.unit_id}")
        if who := " ".join(unit.identification.values()):
            lines.append(f"    description: {json.dumps(who, ensure_ascii=False)}")
        if unit.found:
            lines.append("    tags:")
        for address, value in unit.found.items():
            tag = f'{address.table}_{address.number}: {{address: "{address}"}}'
            lines.append(f"      {tag:<48} # {value}" + (f" 0x{value:04X}" if not address.table.bits else ""))
    return lines
