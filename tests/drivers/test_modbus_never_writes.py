"""Nothing but reading can leave the Modbus package, whatever it is asked for."""

from __future__ import annotations

import ast
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import edge_agent_drivers.modbus
from edge_agent_drivers.modbus import mbap
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.pdu import Question

PACKAGE = Path(next(iter(edge_agent_drivers.modbus.__path__)))
any_int = st.integers(-(2**40), 2**40) | st.integers(-2, 70_000)


@given(any_int, any_int, st.sampled_from(list(Table)), any_int, any_int)
def test_no_arguments_make_a_frame_that_writes(
    transaction: int, unit: int, table: Table, address: int, quantity: int
) -> None:
    """A frame has the table's reading function, or cannot be made at all."""
    try:
        frame = mbap.frame(Question(transaction, unit, table, address, quantity))
    except struct.error:
        return  # a number that does not fit
    assert frame[4:6] == b"\0\x06", "one request, and nothing behind it"
    assert len(frame) == 12
    assert frame[7] in {1, 2, 3, 4}


def test_there_are_four_tables_and_no_other_function() -> None:
    """Functions belong to tables, which are read with 1 to 4."""
    assert sorted(table.function for table in Table) == [1, 2, 3, 4]


def calls(path: Path, *names: str) -> list[ast.Call]:
    """The calls of methods with one of these names in a module."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names
    ]


def test_every_byte_that_is_sent_was_framed() -> None:
    """Wherever the package hands bytes to a transport, they are what `frame` made of a question."""
    sent = [
        f"{path.name}: {ast.unparse(call.args[0])}"
        for path in sorted(PACKAGE.glob("*.py"))
        for call in calls(path, "write", "writelines", "sendto", "send", "sendall", "sendmsg")
    ]
    assert sent
    assert [what for what in sent if not what.endswith((": frame(question)", ": self._sent"))] == []


def test_a_pdu_is_packed_in_one_place() -> None:
    """Only `pdu.py` (and the module of device identification) makes requests."""
    makers = {
        path.name
        for path in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "pdu"
    }
    assert makers - {"identification.py"} == {"pdu.py"}
