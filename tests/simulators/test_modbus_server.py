"""The Modbus server: what it answers, what it refuses, what it counts, and how it lies when asked to."""

from __future__ import annotations

import asyncio
import struct

import pytest

from edge_agent_simulators.image import RegisterImage, Registers
from edge_agent_simulators.modbus_server import WRITE_FUNCTIONS, ModbusServer
from edge_agent_simulators.wire_faults import FaultKind
from tests.simulators.wire import Reply, connect, read

REGISTERS: Registers = {
    "holding": {address: address * 3 for address in range(100, 110)},
    "input": {12: 0xFFFE, 13: 7},
    "coil": {address: int(address % 3 == 0) for address in range(20)},
    "discrete": {0: 1},
}


def server(**options: object) -> ModbusServer:
    return ModbusServer({1: REGISTERS, 7: {"holding": {0: 42}}}, **options)  # type: ignore[arg-type]


async def test_reads_all_four_tables() -> None:
    """Function codes 1 to 4 give what the image holds, bits packed lowest first."""
    async with server() as modbus, connect(modbus.port) as wire:
        assert await wire.ask(read(3, 100, 3)) == struct.pack(">BBHHH", 3, 6, 300, 303, 306)
        assert await wire.ask(read(4, 12, 2)) == b"\x04\x04\xff\xfe\x00\x07"
        assert await wire.ask(read(1, 0, 10)) == bytes((1, 2, 0b01001001, 0b10))
        assert await wire.ask(read(2, 0, 1)) == b"\x02\x01\x01"
        assert modbus.requests == 4
        assert modbus.write_requests == 0


async def test_answers_each_unit_with_its_own_image() -> None:
    """Unit 7 has other registers than unit 1, and an unknown unit gets exception 11."""
    async with server() as modbus, connect(modbus.port) as wire:
        assert await wire.ask(read(3, 0, 1), unit=7) == b"\x03\x02\x00\x2a"
        assert await wire.ask(read(3, 0, 1), unit=9) == b"\x83\x0b"


async def test_can_ignore_unknown_units() -> None:
    """As some devices do, the server can stay silent to a unit it is not."""
    async with server(unknown_unit="silence") as modbus, connect(modbus.port) as wire:
        wire.send(read(3, 0, 1), unit=9)
        with pytest.raises(TimeoutError):
            await wire.receive(0.1)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (read(3, 99, 1), 2),
        (read(3, 105, 6), 2),
        (read(3, 65_535, 2), 2),
        (read(1, 15, 10), 2),
        (read(3, 100, 0), 3),
        (read(3, 100, 126), 3),
        (read(1, 0, 2001), 3),
        (read(3, 100, 1)[:-1], 3),
        (b"\x07", 1),
        (b"\x08\x00\x00\x00\x00", 1),
        (b"\x2b\x0d\x01\x00", 1),
    ],
    ids=repr,
)
@pytest.mark.writes_on_purpose
async def test_refuses(pdu: bytes, code: int) -> None:
    """A gap, the end of the space, a bad quantity and unknown functions get their exception codes."""
    async with server() as modbus, connect(modbus.port) as wire:
        assert await wire.ask(pdu) == bytes((pdu[0] | 0x80, code))
        assert modbus.write_requests == 0


@pytest.mark.parametrize("function", sorted(WRITE_FUNCTIONS))
@pytest.mark.writes_on_purpose
async def test_counts_and_refuses_writes(function: int) -> None:
    """Every function code that writes is refused with exception 1, counted, and changes nothing."""
    async with server() as modbus, connect(modbus.port) as wire:
        assert await wire.ask(bytes((function, 0, 100, 0, 1))) == bytes((function | 0x80, 1))
        assert modbus.write_requests == 1
        assert (await wire.ask(read(3, 100, 1)))[2:] == struct.pack(">H", 300)


async def test_identifies_itself() -> None:
    """Function 43/14 gives vendor, product and revision."""
    async with server(identification=("maker", "PUMP", "2.1")) as modbus, connect(modbus.port) as wire:
        assert await wire.ask(b"\x2b\x0e\x01\x00") == b"\x2b\x0e\x01\x81\0\0\x03\0\5maker\1\4PUMP\2\0032.1"
        assert await wire.ask(b"\x2b\x0e\x04\x02") == b"\x2b\x0e\x04\x81\0\0\x01\2\0032.1"
        assert await wire.ask(b"\x2b\x0e\x04\x09") == b"\xab\x02"


async def test_answers_pipelined_requests_in_order() -> None:
    """Fifty requests in one segment get fifty answers, in order, with their own transaction ids."""
    async with server() as modbus, connect(modbus.port) as wire:
        for number in range(50):
            wire.send(read(3, 100 + number % 10, 1), transaction=number)
        replies = [await wire.receive() for _ in range(50)]
        assert [reply.transaction for reply in replies] == list(range(50))
        assert [reply.words[0] for reply in replies] == [(100 + number % 10) * 3 for number in range(50)]


async def test_takes_requests_in_pieces() -> None:
    """A request that arrives byte by byte is answered once it is whole."""
    frame = struct.pack(">HHHB", 5, 0, 6, 1) + read(3, 100, 1)
    async with server() as modbus, connect(modbus.port) as wire:
        for byte in frame:
            wire.writer.write(bytes((byte,)))
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert (await wire.receive()).words == [300]


@pytest.mark.parametrize("header", [(1, 7, 6), (1, 0, 1), (1, 0, 300)], ids=repr)
async def test_closes_on_what_is_no_modbus(header: tuple[int, int, int]) -> None:
    """A wrong protocol id or an impossible length ends the connection; other connections live on."""
    async with server() as modbus, connect(modbus.port) as wire, connect(modbus.port) as other:
        wire.writer.write(struct.pack(">HHH", *header) + b"\1" * 12)
        assert await wire.reader.read() == b""
        assert (await other.ask(read(3, 100, 1)))[2:] == struct.pack(">H", 300)


async def test_image_changes_are_seen_whole() -> None:
    """Registers changed without awaiting appear together, and removed ones are illegal."""
    image = RegisterImage({"holding": {0: 1, 1: 1}})
    async with ModbusServer({1: image}) as modbus, connect(modbus.port) as wire:
        image.set_words("holding", 0, [2, 2])
        image.set_bits("coil", 5, [True])
        assert (await wire.ask(read(3, 0, 2)))[2:] == struct.pack(">HH", 2, 2)
        assert await wire.ask(read(1, 5, 1)) == b"\x01\x01\x01"
        image.remove("holding", 1)
        assert await wire.ask(read(3, 0, 2)) == b"\x83\x02"


def test_image_refuses_unknown_tables() -> None:
    """A table Modbus does not have is an error, not a silent nothing."""
    with pytest.raises(ValueError, match="register"):
        RegisterImage({"register": {0: 1}})


async def test_listener_hears_only_what_was_answered() -> None:
    """Each answered read is told with its raw bytes; refused and swallowed ones are not."""
    told: list[tuple[int, int, int, bytes]] = []
    async with server() as modbus, connect(modbus.port) as wire:
        modbus.on_read = lambda *heard: told.append(heard)
        await wire.ask(read(3, 100, 1))
        await wire.ask(read(3, 0, 1))
        modbus.faults.add("exception", 4, count=1)
        await wire.ask(read(3, 100, 1))
    assert told == [(1, 3, 100, struct.pack(">H", 300))]


async def struck(kind: FaultKind, value: float = 0.0) -> Reply:
    async with server() as modbus, connect(modbus.port) as wire:
        modbus.faults.add(kind, value, count=1)
        wire.send(read(3, 100, 2), transaction=3)
        reply = await wire.receive()
        assert modbus.faults.struck == 1
        assert (await wire.ask(read(3, 100, 1)))[2:] == struct.pack(">H", 300)
        return reply


async def test_can_shorten_replies() -> None:
    """`short` leaves out the last register, with a byte count that agrees."""
    assert (await struck("short")).pdu == struct.pack(">BBH", 3, 2, 300)


async def test_can_answer_for_somebody_else() -> None:
    """`wrong_transaction`, `wrong_unit` and `exception` bend just that."""
    assert (await struck("wrong_transaction")).transaction != 3
    assert (await struck("wrong_unit")).unit != 1
    assert (await struck("exception", 6)).pdu == b"\x83\x06"


async def test_can_delay_and_keeps_the_order() -> None:
    """A delayed answer comes late, and those asked for after it come after it."""
    async with server() as modbus, connect(modbus.port) as wire:
        modbus.faults.add("delay", 0.15, count=1)
        begun = asyncio.get_running_loop().time()
        wire.send(read(3, 100, 1), transaction=1)
        wire.send(read(3, 101, 1), transaction=2)
        replies = [await wire.receive(), await wire.receive()]
        assert asyncio.get_running_loop().time() - begun >= 0.14
        assert [reply.transaction for reply in replies] == [1, 2]


async def test_can_be_silent_for_some_addresses_until_told_otherwise() -> None:
    """A fault can be tied to a unit and addresses, stays until removed, and spares the rest."""
    async with server() as modbus, connect(modbus.port) as wire:
        fault = modbus.faults.add("silence", unit=1, addresses=range(105, 110))
        wire.send(read(3, 105, 1))
        with pytest.raises(TimeoutError):
            await wire.receive(0.05)
        assert len(await wire.ask(read(3, 100, 1))) == 4
        modbus.faults.remove(fault)
        assert len(await wire.ask(read(3, 105, 1))) == 4


async def test_can_send_garbage_and_close() -> None:
    """`garbage` is not Modbus any more, and `close` cuts the connection without an answer."""
    async with server() as modbus:
        async with connect(modbus.port) as wire:
            modbus.faults.add("garbage", count=1)
            wire.send(read(3, 100, 1))
            assert struct.unpack(">H", (await wire.reader.readexactly(4))[2:]) != (0,)
        async with connect(modbus.port) as wire:
            modbus.faults.add("close")
            wire.send(read(3, 100, 1))
            assert await wire.reader.read() == b""
        modbus.faults.clear()
        async with connect(modbus.port) as wire:
            assert len(await wire.ask(read(3, 100, 1))) == 4


async def test_can_drop_every_connection_and_stop_twice() -> None:
    """A restart of the device is one call; stopping is harmless when it has happened."""
    modbus = server()
    await modbus.start()
    async with connect(modbus.port) as wire:
        await wire.ask(read(3, 100, 1))
        assert modbus.accepted == 1
        modbus.drop_connections()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.receive()
    await modbus.stop()
    await modbus.stop()
