"""Single questions to the devices behind a line, for `probe` and `scan`: reads only, and each answer is JSON.

    {"do": "read", "unit_id": 1, "table": "holding", "address": 100, "count": 4}  -> {"words": [...]}
    {"do": "identify", "unit_id": 1}                                              -> {"objects": {NAME: TEXT}}

Bits of a bit table are words 0 and 1. Else the answer is {"exception": CODE, "why": ...} where the device
said no, or {"fault": KIND, "why": ...} where there is none: silent, resting (not asked, as it was silent
before and others share the line), garbled or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import (
    LineFault,
    LineLost,
    NoAnswer,
    Refused,
    Resting,
    Taken,
    Untrusted,
)
from edge_agent_drivers.modbus.identification import NAMES, identify
from edge_agent_drivers.modbus.line import ModbusLine

MOST_REGISTERS = 125
MOST_BITS = 2000


async def answer(line: ModbusLine, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one question over the line, which is opened where it is closed.

    DeviceRefused where it is no question, DeviceUnreachable where the line cannot be opened.
    """
    do = question.get("do")
    if do not in ("read", "identify"):
        raise DeviceRefused(f"'{do}' is no question to a Modbus device: there are read and identify")
    unit = _unit(question)
    wanted = _wanted(question) if do == "read" else None
    if not line.connected:
        try:
            await line.open()
        except (Taken, Untrusted) as fault:
            raise DeviceRefused(str(fault)) from fault
        except LineFault as fault:
            raise DeviceUnreachable(str(fault)) from fault
    try:
        if wanted is None:
            found = await identify(line, unit)
            return {
                "objects": {NAMES.get(number, f"object {number}"): text for number, text in found.items()}
            }
        return {"words": _words(await line.ask(unit, *wanted), *wanted)}
    except Refused as refusal:
        return {"exception": refusal.code, "why": str(refusal)}
    except LineFault as fault:
        return {"fault": _kind(fault), "why": str(fault)}


def _words(payload: bytes, table: Table, address: int, count: int) -> list[int]:
    if table.bits:
        bits = int.from_bytes(payload, "little")
        return [bits >> i & 1 for i in range(count)]
    return [int.from_bytes(payload[i : i + 2], "big") for i in range(0, len(payload), 2)]


def _unit(question: Mapping[str, Any]) -> int:
    unit = question.get("unit_id")
    if not isinstance(unit, int) or not 0 <= unit <= 255:
        raise DeviceRefused(f"there is no unit {unit}: unit ids go from 0 to 255")
    return unit


def _wanted(question: Mapping[str, Any]) -> tuple[Table, int, int]:
    """Table, address and count, all of them possible. DeviceRefused otherwise."""
    try:
        table = Table(str(question.get("table")))
        numbers = (question.get("address"), question.get("count"))
        address, count = (number for number in numbers if isinstance(number, int))
    except ValueError:
        raise DeviceRefused(f"{dict(question)} does not say what to read") from None
    most = MOST_BITS if table.bits else MOST_REGISTERS
    if not (1 <= count <= most and 0 <= address <= 65536 - count):
        raise DeviceRefused(f"there are no {count} of {table} from {address} on, in one request")
    return table, address, count


def _kind(fault: LineFault) -> str:
    if isinstance(fault, Resting):
        return "resting"
    if isinstance(fault, NoAnswer):
        return "silent"
    return "lost" if isinstance(fault, LineLost) else "garbled"
