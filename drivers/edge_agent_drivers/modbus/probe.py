"""`edge-agent probe`: registers in every type and byte order, plausible ones first, ready to paste."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.contracts.plugs import Ask
from edge_agent_drivers import terminal
from edge_agent_drivers.modbus.address import Address, parse_address
from edge_agent_drivers.modbus.plausible import TYPES, Candidate, Reading, rank

USAGE, FOUND, NOTHING, AWAY = 2, 0, 1, 75
WIDEST = 4
"""Registers of the widest number, which are read where nobody says how many."""
BETWEEN_READS = 1.0
"""Seconds between the two reads that show whether a value moves."""
SHOWN = 8
"""Candidates shown with their YAML; the others follow in one line each."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to know."""

    unit_id: int
    address: Address
    base: int
    count: int | None
    expected: tuple[float, float] | None
    types: tuple[str, ...]
    name: str

    @property
    def first(self) -> int:
        """The first register on the wire."""
        return self.address.on_wire(self.base)


async def probe(
    ask: Ask,
    device: str,
    *,
    unit_id: int,
    address: str,
    address_base: int,
    count: int | None,
    expect: str | None,
    types: Sequence[str],
    name: str,
    json_output: bool,
) -> int:
    """Read a register or a few, twice, and show what they may mean; the exit code.

    `device` says for people where that is and whose connection is used.
    """
    try:
        wish = _wish(unit_id, address, address_base, count, expect, types, name)
    except ValueError as problem:
        terminal.say(str(problem))
        return USAGE
    terminal.say(_announcement(wish, device))
    words, refusal = await _read(ask, wish)
    if not words:
        terminal.say(f"unit {unit_id}, {wish.address}: {refusal.get('why', 'no answer')}")
        return NOTHING if "exception" in refusal else AWAY
    await asyncio.sleep(BETWEEN_READS)
    again = await ask(_question(wish, len(words)))
    later = again.get("words")
    candidates = _ranked(wish, words, later)
    if json_output:
        terminal.show(json.dumps(_document(wish, words, later, candidates), ensure_ascii=False))
    else:
        _show(wish, words, later, candidates)
    return FOUND if any(one.best.plausible for one in candidates) else NOTHING


def _wish(
    unit_id: int,
    written: str,
    base: int,
    count: int | None,
    expect: str | None,
    types: Sequence[str],
    name: str,
) -> Wish:
    """What is wanted. ValueError with what to write instead."""
    address = parse_address(written)
    if address.table.bits:
        raise ValueError(
            f"{address} is one bit, true or false: there is nothing to guess.\n"
            f'Ready to paste: {name}: {{address: "{address}"}}'
        )
    if unknown := [type_ for type_ in types if type_ not in (*TYPES, "string")]:
        raise ValueError(f"--type {unknown[0]} cannot be probed; there are {', '.join(TYPES)}, string")
    wish = Wish(unit_id, address, base, count, _range(expect), tuple(types), name)
    if not 0 <= wish.first <= 65535:
        raise ValueError(f"{address} does not exist: with address base {base} the first is {base}")
    if count is not None and wish.first + count > 65536:
        raise ValueError(f"{count} registers from {address} on go beyond the last address, 65535")
    return wish


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, _, high = text.partition(",")
    try:
        found = float(low), float(high)
    except ValueError:
        raise ValueError(f"--expect {text}: write the range as LOW,HIGH, for example 0,25") from None
    if not found[0] < found[1]:
        raise ValueError(f"--expect {text}: the first number must be below the second")
    return found


def _announcement(wish: Wish, device: str) -> str:
    count = _most(wish)
    what = f"register {wish.address}" if count == 1 else f"{count} registers from {wish.address} on"
    text = f"Reading {what}, twice, from unit {wish.unit_id} of {device}."
    if wish.count is None and count > 1:
        text += f"\nA value may be that wide; --count 1 reads {wish.address} alone."
    return text


def _most(wish: Wish) -> int:
    return wish.count or min(WIDEST, 65536 - wish.first)


def _question(wish: Wish, count: int) -> dict[str, Any]:
    return {
        "do": "read",
        "unit_id": wish.unit_id,
        "table": str(wish.address.table),
        "address": wish.first,
        "count": count,
    }


async def _read(ask: Ask, wish: Wish) -> tuple[list[int], Mapping[str, Any]]:
    """The registers, as many as the device gives; and why none, where it gives none."""
    count = _most(wish)
    while True:
        reply = await ask(_question(wish, count))
        if "words" in reply:
            return reply["words"], {}
        # Where nobody asked for more than one, the neighbours may not exist; some devices say so by silence.
        refused = reply.get("exception") in (2, 3) or reply.get("fault") == "silent"
        if wish.count is not None or count == 1 or not refused:
            return [], reply
        count = count // 2 if "exception" in reply else 1


def _ranked(wish: Wish, words: Sequence[int], later: Sequence[int] | None) -> list[Candidate]:
    found = rank(words, later, expected=wish.expected, types=wish.types)
    if wish.expected is None or any(one.best.possible for one in found):
        return found
    terminal.say(f"Nothing lies between {wish.expected[0]:g} and {wish.expected[1]:g}; without that range:")
    return rank(words, later, types=wish.types)


def _yaml(wish: Wish, reading: Reading) -> str:
    keys = [f'address: "{wish.address}"', f"type: {reading.type}"]
    if reading.type == "string":
        keys.append(f"length: {reading.length}")
    if reading.order != "ABCD":
        keys.append(f"byte_order: {reading.order}")
    if reading.scale != 1.0:
        keys.append(f"scale: {reading.scale:g}")
    return f"{wish.name}: {{{', '.join(keys)}}}"


def _document(
    wish: Wish, words: Sequence[int], later: Sequence[int] | None, candidates: Sequence[Candidate]
) -> dict[str, Any]:
    return {
        "unit_id": wish.unit_id,
        "address": str(wish.address),
        "registers": list(words),
        "later": list(later) if later else None,
        "candidates": [_as_json(wish, one) for one in candidates],
    }


def _as_json(wish: Wish, candidate: Candidate) -> dict[str, Any]:
    best = candidate.best
    return {
        "value": best.value,
        "later": best.later,
        "type": best.type,
        "byte_order": best.order,
        "scale": best.scale,
        "length": best.length or None,
        "plausible": best.plausible,
        "notes": best.notes,
        "yaml": _yaml(wish, best),
        "same_as": [{"type": one.type, "byte_order": one.order} for one in candidate.readings[1:]],
    }


def _show(
    wish: Wish, words: Sequence[int], later: Sequence[int] | None, candidates: Sequence[Candidate]
) -> None:
    terminal.show(f"\n{wish.address}   {_hex(words)}" + (f"   then {_hex(later)}" if later else ""))
    likely = [one for one in candidates if one.best.plausible][:SHOWN]
    if not any(words):
        terminal.show("All zero: every type reads 0. Try again while the machine runs.")
    for number, one in enumerate(likely, 1):
        best = one.best
        terminal.show(f"\n{number:2}. {_change(best):22} {_called(best)}{_remarks(one)}")
        terminal.show(f"    {_yaml(wish, best)}")
    others = [one for one in candidates if one.best.possible and one not in likely]
    if others:
        terminal.show(f"\n{'Less likely' if likely else 'Nothing of this is likely'}:")
    for one in others:
        notes = f" ({', '.join(one.best.notes)})" if one.best.notes else ""
        terminal.show(f"    {_change(one.best):22} {_called(one.best)}{notes}")
    _show_impossible([one.best for one in candidates if not one.best.possible])


def _show_impossible(readings: Sequence[Reading]) -> None:
    """What gives no value, by the reason why."""
    reasons: dict[str, list[str]] = {}
    for reading in readings:
        reasons.setdefault(reading.notes[-1], []).append(_called(reading))
    for reason, names in reasons.items():
        terminal.show("")
        terminal.show(textwrap.fill(f"{reason}: {', '.join(names)}", 78, subsequent_indent="    "))


def _hex(words: Sequence[int]) -> str:
    shown = " ".join(f"{word:04X}" for word in words[:8])
    return f"{shown} ..." if len(words) > 8 else shown


def _change(reading: Reading) -> str:
    now, later = _text(reading.value), _text(reading.later)
    return now if reading.later is None or later == now else f"{now} → {later}"


def _called(reading: Reading) -> str:
    order = f" {reading.order}" if reading.order != "ABCD" else ""
    scale = f" × {reading.scale:g}" if reading.scale != 1.0 else ""
    return f"{reading.type}{order}{scale}"


def _remarks(candidate: Candidate) -> str:
    notes = f" ({', '.join(candidate.best.notes)})" if candidate.best.notes else ""
    others = [_called(one) for one in candidate.readings[1:4]]
    return f"{notes}; the same: {', '.join(others)}" if others else notes


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.7g}"
    return f'"{value}"' if isinstance(value, str) else str(value)
