"""Single questions to the devices behind a line, for `probe` and `scan`: reads only, and each answer is JSON.

    {"do": "read", "unit_id": 1, "table": "holding", "address": 100, "count": 4}

The answer is {"words": [...]} (bits of a bit table as 0 and 1), {"exception": CODE, "why": ...} where the
device said no, or {"fault": KIND, "why": ...} where there is no answer: silent, garbled or lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import LineFault, LineLost, NoAnswer, Refused
from edge_agent_drivers.modbus.line import ModbusLine

MOST_REGISTERS = 125
MOST_BITS = 2000


async def answer(line: ModbusLine, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one question over the line, which is opened where it is closed.

    DeviceRefused where it is no question, DeviceUnreachable where the line cannot be opened.
    """
    if question.get("do") != "read":
        raise DeviceRefused(f"'{question.get('do')}' is no question to a Modbus device: it can be read")
    unit, table, address, count = _wanted(question)
    if not line.connected:
        try:
            await line.open()
        except LineFault as fault:
            raise DeviceUnreachable(str(fault)) from fault
    try:
        payload = await line.ask(unit, table, address, count)
    except Refused as refusal:
        return {"exception": refusal.code, "why": str(refusal)}
    except LineFault as fault:
        return {"fault": _kind(fault), "why": str(fault)}
    if table.bits:
        bits = int.from_bytes(payload, "little")
        return {"words": [bits >> i & 1 for i in range(count)]}
    return {"words": [int.from_bytes(payload[i : i + 2], "big") for i in range(0, len(payload), 2)]}


def _wanted(question: Mapping[str, Any]) -> tuple[int, Table, int, int]:
    """Unit, table, address and count, all of them possible. DeviceRefused otherwise."""
    numbers = [question.get(key) for key in ("unit_id", "address", "count")]
    try:
        table = Table(str(question.get("table")))
        unit, address, count = (int(number) for number in numbers if isinstance(number, int))
    except ValueError:
        raise DeviceRefused(f"{dict(question)} does not say what to read") from None
    most = MOST_BITS if table.bits else MOST_REGISTERS
    if not (0 <= unit <= 255 and 1 <= count <= most and 0 <= address <= 65536 - count):
        raise DeviceRefused(f"unit {unit} has no {count} of {table} from {address} on, in one request")
    return unit, table, address, count


def _kind(fault: LineFault) -> str:
    if isinstance(fault, LineLost):
        return "lost"
    return "silent" if isinstance(fault, NoAnswer) else "garbled"
