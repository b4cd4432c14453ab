"""Nothing but reading can leave the Modbus package, whatever it is asked for."""

from __future__ import annotations

import ast
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import edge_agent_drivers.modbus
from edge_agent_drivers.modbus import mbap, rtu
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.identification import Category, IdentityQuestion
from edge_agent_drivers.modbus.pdu import Asked, Question

PACKAGE = Path(next(iter(edge_agent_drivers.modbus.__path__)))
any_int = st.integers(-(2**40), 2**40) | st.integers(-2, 70_000)


def frames(question: Asked) -> list[bytes]:
    """The PDU and the two frames of a question; none where a number does not fit."""
    try:
        frames = [mbap.frame(question), rtu.frame(question)]
    except (struct.error, ValueError):
        return []
    assert frames[0][4:8] == struct.pack(">HBB", 1 + len(question.pdu), question.unit, question.pdu[0])
    assert frames[0][7:] == question.pdu, "one request, and nothing behind it"
    assert frames[1][1:-2] == question.pdu
    return frames


@given(any_int, any_int, st.sampled_from(list(Table)), any_int, any_int)
def test_no_arguments_make_a_read_that_writes(
    transaction: int, unit: int, table: Table, address: int, quantity: int
) -> None:
    """A frame has the table's reading function and is as long as a read, or cannot be made at all."""
    question = Question(transaction, unit, table, address, quantity)
    if frames(question):
        assert question.pdu[0] in {1, 2, 3, 4}
        assert len(question.pdu) == 5


@given(any_int, any_int, st.sampled_from(list(Category)), any_int)
def test_no_arguments_make_an_identification_that_writes(
    transaction: int, unit: int, category: Category, first: int
) -> None:
    """Device identification is 43/14 (43/13 would be CANopen, which can write), or cannot be made at all."""
    question = IdentityQuestion(transaction, unit, category, first)
    if frames(question):
        assert question.pdu[:2] == b"\x2b\x0e"
        assert len(question.pdu) == 4


def test_there_are_four_tables_and_no_other_function() -> None:
    """Functions belong to tables, which are read with 1 to 4."""
    assert sorted(table.function for table in Table) == [1, 2, 3, 4]


PASSES_ON = "serial_port.py"
"""Our own transport: what it writes is what `RtuConnection` gave it."""


def calls(path: Path, *names: str) -> list[ast.Call]:
    """The calls of methods with one of these names in a module."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names
    ]


def test_every_byte_that_is_sent_was_framed() -> None:
    """Wherever the package hands bytes to a transport, they are what `frame` made of a question."""
    sent = {
        f"{path.name}: {ast.unparse(call.args[0])}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != PASSES_ON
        for call in calls(path, "write", "writelines", "sendto", "send", "sendall", "sendmsg")
    }
    assert sent == {"mbap.py: frame(question)", "udp.py: frame(question)", "rtu.py: frame(question)"}


def test_a_request_is_packed_in_two_places() -> None:
    """Only the two kinds of question have a PDU."""
    makers = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "pdu"
    }
    assert makers == {"identification.py", "pdu.py"}
