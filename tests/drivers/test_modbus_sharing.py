"""Several machines behind one address: one connection, fair turns, and dead units that cost next to
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.breaker import SHARE, STRIKES, Units
from edge_agent_drivers.modbus.channel import Timing
from edge_agent_drivers.modbus.connection import RECONNECT_GAP, Connection
from edge_agent_drivers.modbus.crc import sealed
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.endpoint import parse_endpoint
from edge_agent_drivers.modbus.faults import LineLost, NoAnswer, Refused, Resting
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.sharing import line_to
from edge_agent_drivers.modbus.turns import Turns
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import ModbusFactory, good, missing, scan

ONE = {"a": {"address": "holding:0"}}


class Gateway(ModbusServer):
    """Units 1 to 9 with holding:N = 1000 * unit + N; remembers who was asked for what."""

    def __init__(self, **keys: Any) -> None:
        images = {unit: {"holding": {n: 1000 * unit + n for n in range(64)}} for unit in range(1, 10)}
        super().__init__(images, unknown_unit="silence", **keys)
        self.asked: list[tuple[int, int, float]] = []
        self.most_connections = 0

    def answer(self, unit: int, pdu: bytes) -> bytes | None:
        self.most_connections = max(self.most_connections, len(self.connections))
        self.asked.append((unit, int.from_bytes(pdu[1:3], "big"), time.monotonic()))
        return super().answer(unit, pdu)


def line(port: int, timeout: float = 0.1, **timing: Any) -> ModbusLine:
    """A line to a port on loopback that shares its connection."""
    return line_to(parse_endpoint(f"tcp://127.0.0.1:{port}"), Timing(timeout, **timing))


async def lines(port: int, count: int, timeout: float = 0.1) -> list[ModbusLine]:
    """Several open ones."""
    made = [line(port, timeout) for _ in range(count)]
    for one in made:
        await opened(one)
    return made


async def opened(one: ModbusLine) -> None:
    """Open it, also where this machine is too busy for the short timeouts of these tests."""
    async with asyncio.timeout(5):
        while not one.connected:
            with contextlib.suppress(LineLost):
                await one.open()


async def value(one: ModbusLine, unit: int, address: int = 0) -> int:
    """One register."""
    return int.from_bytes(await one.ask(unit, Table.HOLDING, address, 1), "big")


async def test_machines_with_one_address_share_one_connection(modbus: ModbusFactory) -> None:
    """The first machine opens it, the last one closes it, and none takes it from the others."""
    async with Gateway() as gateway:
        first, second, third = (modbus(gateway.port, ONE, unit_id=unit) for unit in (1, 2, 2))
        for driver in (first, second, third):
            await driver.connect()
        found = await asyncio.gather(*(scan(driver) for driver in (first, second, third)))
        assert found == [{"a": good(1000)}, {"a": good(2000)}, {"a": good(2000)}]
        await first.close()
        with pytest.raises(DeviceUnreachable, match="not connected"):
            await scan(first)
        assert await scan(second) == {"a": good(2000)}
        await second.close()
        assert await scan(third) == {"a": good(2000)}
        assert (gateway.accepted, len(gateway.connections)) == (1, 1)
        await third.close()
        await asyncio.sleep(0.02)
        assert not gateway.connections


async def test_two_ways_to_one_address_are_refused() -> None:
    """A second machine that reaches the same port in another way is told so, and harms nobody."""
    async with Gateway() as gateway:
        [there] = await lines(gateway.port, 1)
        other = line_to(parse_endpoint(f"tls://127.0.0.1:{gateway.port}"), Timing(0.1))
        with pytest.raises(LineLost, match="in use as tcp://"):
            await other.open()
        assert await value(there, 1) == 1000
        there.close()


async def test_a_silent_unit_does_not_close_the_connection_of_the_others() -> None:
    """Timeouts of one unit leave the socket open, and its late replies answer nothing."""
    async with Gateway() as gateway:
        one, two = await lines(gateway.port, 2, timeout=0.15)
        for n in range(5):
            gateway.faults.add("delay", 0.17, unit=1, count=1)
            with pytest.raises(NoAnswer):
                await value(one, 1, n)
            # The simulator holds this answer back until the late one is sent.
            assert await value(two, 2, n) == 2000 + n
            assert await value(one, 1, n + 20) == 1020 + n
        assert gateway.accepted == 1
        one.close()
        two.close()


async def test_without_transaction_numbers_only_the_silent_unit_waits() -> None:
    """RTU over TCP, shared: a late reply answers nothing, and the others are asked meanwhile."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                request = await reader.readexactly(8)
                requests.append(request)
                reply = sealed(request[:2] + b"\x02" + bytes((request[0], request[3])))
                late = len(requests) == 1
                asyncio.get_running_loop().call_later(0.15 if late else 0, writer.write, reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        endpoint = parse_endpoint(f"rtu+tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        one, two = (line_to(endpoint, Timing(0.1)) for _ in range(2))
        await opened(one)
        await opened(two)
        with pytest.raises(NoAnswer):
            await value(one, 1, 5)
        again = asyncio.create_task(value(one, 1, 6))
        assert await value(two, 2, 3) == 0x203
        assert await again == 0x106
        assert [request[3] for request in requests] == [5, 3, 6]
        one.close()
        two.close()
        await asyncio.sleep(0.02)


async def test_a_connection_on_which_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half open, as after a switch lost power: once nothing has come for a while it is closed."""
    monkeypatch.setattr("edge_agent_drivers.modbus.connection.HALF_OPEN", 0.2)
    async with Gateway() as gateway:
        one, idle = await lines(gateway.port, 2, timeout=0.05)
        assert await value(one, 1) == 1000
        gateway.faults.add("silence")
        async with asyncio.timeout(2):
            while one.connected:
                with pytest.raises(NoAnswer):
                    await value(one, 1)
        gateway.faults.clear()
        await idle.open()
        assert await value(idle, 2) == 2000
        assert gateway.accepted == 2
        one.close()
        idle.close()


async def test_never_two_sockets_to_one_host(modbus: ModbusFactory) -> None:
    """Five machines, a connection cut again and again: one socket at a time, and every scan heals."""
    async with Gateway() as gateway:
        drivers = [modbus(gateway.port, ONE, unit_id=unit) for unit in range(1, 6)]
        for driver in drivers:
            await driver.connect()
        good_scans: list[int] = []

        async def keep_scanning(driver: ModbusDriver, unit: int) -> None:
            for _ in range(40):
                try:
                    assert await scan(driver) == {"a": good(1000 * unit)}
                    good_scans.append(unit)
                except DeviceUnreachable:
                    await driver.close()
                    await driver.connect()
                await asyncio.sleep(0.005)

        async def keep_cutting() -> None:
            while True:
                await asyncio.sleep(0.03)
                gateway.drop_connections()

        cutting = asyncio.create_task(keep_cutting())
        await asyncio.gather(*(keep_scanning(driver, unit) for unit, driver in enumerate(drivers, 1)))
        cutting.cancel()
        assert gateway.most_connections == 1
        assert gateway.accepted >= 3
        # A cut costs each machine the scan it was in, at most.
        assert 5 * 40 - len(good_scans) <= 5 * gateway.accepted


async def test_a_device_that_hangs_up_at_once_is_not_hammered() -> None:
    """Connections that bring no answer are at least the gap apart, however many lines want one."""
    times: list[float] = []

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        made = [line(server.sockets[0].getsockname()[1]) for _ in range(5)]

        async def insist(one: ModbusLine) -> None:
            until = time.monotonic() + 0.55
            while time.monotonic() < until:
                try:
                    await one.open()
                    await value(one, 1)
                except (LineLost, Resting):
                    await asyncio.sleep(0.001)

        began = time.monotonic()
        await asyncio.gather(*(insist(one) for one in made))
        elapsed = time.monotonic() - began
        for one in made:
            one.close()
    assert 3 <= len(times) <= elapsed / RECONNECT_GAP + 2


async def test_machines_take_turns(modbus: ModbusFactory) -> None:
    """One with many blocks does not stand between another one and its turn."""
    async with Gateway() as gateway:
        many = modbus(gateway.port, {f"t{n}": {"address": f"holding:{2 * n}"} for n in range(30)})
        few = modbus(gateway.port, ONE, unit_id=2)
        await many.connect()
        await few.connect()
        long = asyncio.create_task(scan(many))
        for _ in range(5):
            await scan(few)
        await long
        units = [unit for unit, _, _ in gateway.asked]
        assert units[: units.index(2) + 9].count(2) >= 4


async def test_the_strictest_pause_counts_and_each_timeout_is_its_own() -> None:
    """A pause one machine needs is kept by all; nobody waits longer than he said himself."""
    async with Gateway() as gateway:
        quick, slow = line(gateway.port, 0.05), line(gateway.port, 0.2, pause=0.04)
        await opened(quick)
        await opened(slow)
        for n in range(3):
            await value(quick, 1, n)
        times = [at for _, _, at in gateway.asked]
        assert min(b - a for a, b in itertools.pairwise(times)) >= 0.035
        gateway.faults.add("silence")
        for one, expected in ((quick, 0.05), (slow, 0.2)):
            began = time.monotonic()
            with pytest.raises(NoAnswer):
                await value(one, 1)
            assert expected <= time.monotonic() - began < expected + 0.15
        slow.close()
        gateway.faults.clear()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await value(quick, 2, 1)
        await value(quick, 2, 2)
        assert time.monotonic() - began < 0.03
        quick.close()


async def test_a_dead_unit_rests_and_says_so_once(
    modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """It is not asked meanwhile, its machine is told why and until when, and it comes back by itself."""
    async with Gateway() as gateway:
        living, dead = (
            modbus(gateway.port, ONE),
            modbus(gateway.port, ONE, unit_id=2, comm={"timeout": "30ms"}),
        )
        await living.connect()
        await scan(living)
        gateway.faults.add("silence", unit=2)

        async def fails() -> str:
            await dead.connect()
            with pytest.raises(DeviceUnreachable) as failure:
                await scan(dead)
            await dead.close()
            return str(failure.value)

        assert "did not answer within 0.03 s" in await fails()
        asked = gateway.requests
        for _ in range(5):
            assert "unit 2 on 127.0.0.1" in (text := await fails())
            assert "does not answer: resting, tried again in " in text
        assert gateway.requests == asked
        async with asyncio.timeout(3):
            while "did not answer" not in await fails():
                await asyncio.sleep(0.05)
        gateway.faults.clear()
        async with asyncio.timeout(3):
            await dead.connect()
            while True:
                try:
                    assert await scan(dead) == {"a": good(2000)}
                    break
                except DeviceUnreachable:
                    await asyncio.sleep(0.05)
        lines = said()
        assert len([text for text in lines if "unit 2 does not answer: resting" in text]) == 1
        assert len([text for text in lines if "unit 2 answers again" in text]) == 1
        assert gateway.accepted == 1


async def test_a_gateways_no_counts_as_the_unit_being_away() -> None:
    """Exception 11 of the gateway puts the unit to rest like silence; an exception of the unit does not."""
    async with Gateway() as gateway:
        one, two = await lines(gateway.port, 2)
        await value(one, 1)
        gateway.faults.add("exception", 11, unit=2)
        gateway.faults.add("exception", 6, unit=3)
        outcomes = await asyncio.gather(*(value(two, 2) for _ in range(20)), return_exceptions=True)
        assert isinstance(outcomes[0], Refused)
        assert sum(isinstance(outcome, Resting) for outcome in outcomes) >= 15
        for _ in range(10):
            with pytest.raises(Refused):
                await value(two, 3)
        one.close()
        two.close()


async def test_where_nobody_lives_nobody_rests() -> None:
    """With all units dead there is nobody to protect; and the first that comes back wakes the others."""
    async with Gateway() as gateway:
        one, two = await lines(gateway.port, 2, timeout=0.02)
        gateway.faults.add("silence")
        for _ in range(3):
            for made, unit in ((one, 1), (two, 2)):
                with pytest.raises(NoAnswer, match="within"):
                    await value(made, unit)
        gateway.faults.clear()
        assert await value(one, 1) == 1000
        assert await value(two, 2) == 2000
        one.close()
        two.close()


@pytest.mark.parametrize("dead", [1, 10, 50])
def test_dead_units_cost_a_line_its_share_at_most(dead: int) -> None:
    """One living unit and many dead ones, simulated: after the first round they take 5 % of the time."""
    timeout, now, spent = 1.0, 0.0, 0.0
    units = Units("line")
    for unit in range(dead + 1):
        units.meet(unit)
    units.answered(0)
    began = dead * timeout
    tests = dict.fromkeys(range(1, dead + 1), 0)
    while now < 20_000:
        now += 2.5
        for unit in tests:
            try:
                units.check(unit, now, timeout)
            except Resting:
                continue
            now += timeout
            spent += timeout
            tests[unit] += 1
            units.away(unit, timeout, now)
    assert spent - began <= SHARE * now
    assert min(tests.values()) >= 0.5 * max(tests.values())


def test_a_unit_that_lived_has_some_misses_free() -> None:
    """A lost reply now and then puts nobody to rest; several in a row do."""
    units = Units("line")
    for unit in (1, 2):
        units.meet(unit)
        units.answered(unit)
    for _ in range(STRIKES - 1):
        units.away(2, 1.0, 0.0)
        units.check(2, 0.0, 1.0)
    units.answered(2)
    for _ in range(STRIKES):
        units.check(2, 0.0, 1.0)
        units.away(2, 1.0, 0.0)
    with pytest.raises(Resting, match="resting, tried again in 20 s"):
        units.check(2, 0.0, 1.0)


async def test_the_dead_do_not_stand_before_the_living() -> None:
    """Those that answer go first; those that may not have one turn a round; a cancelled wait is over."""
    turns, order = Turns(), []
    turns.round = 3

    async def work(name: str, *, living: bool) -> None:
        if not turns.take():
            await turns.wait(living=living)
        order.append(name)
        await asyncio.sleep(0)
        turns.give_back()

    assert turns.take()
    others = [asyncio.create_task(work(f"d{n}", living=False)) for n in range(4)]
    living = [asyncio.create_task(work(f"l{n}", living=True)) for n in range(5)]
    await asyncio.sleep(0)
    others[1].cancel()
    await asyncio.sleep(0)
    turns.give_back()
    await asyncio.gather(*others, *living, return_exceptions=True)
    assert order == ["l0", "l1", "l2", "d0", "l3", "l4", "d2", "d3"]
    assert turns.take()


@pytest.mark.parametrize("turns_before", range(8))
async def test_a_cancelled_turn_goes_to_the_next(turns_before: int) -> None:
    """Whenever a waiting question is cancelled, the line goes on."""
    async with Gateway() as gateway:
        one, two = await lines(gateway.port, 2, timeout=1.0)
        asking = [asyncio.create_task(value(made, unit)) for made, unit in ((one, 1), (two, 2), (one, 3))]
        for _ in range(turns_before):
            await asyncio.sleep(0)
        asking[1].cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert (results[0], results[2]) == (1000, 3000)
        assert await value(two, 2) == 2000
        assert gateway.accepted == 1
        one.close()
        two.close()


async def test_one_attempt_to_connect_is_everybodys() -> None:
    """Twenty lines to a host that is not there wait for one attempt, not for twenty."""
    attempts = 0

    async def dial() -> Any:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.05)
        raise LineLost("no connection: nobody there")

    connection = Connection("x", dial, shared=True)
    made = [ModbusLine.over("x", lambda: connection, Timing(1.0)) for _ in range(20)]
    outcomes = await asyncio.gather(*(one.open() for one in made), return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {"no connection: nobody there"}
    assert attempts == 1


async def test_one_silent_block_of_a_shared_unit_harms_only_itself(modbus: ModbusFactory) -> None:
    """A unit that is silent about one block still lives: it does not rest."""
    async with Gateway() as gateway:
        machine = modbus(gateway.port, {"a": {"address": "holding:0"}, "b": {"address": "holding:30"}})
        other = modbus(gateway.port, ONE, unit_id=2)
        await machine.connect()
        await other.connect()
        gateway.faults.add("silence", unit=1, addresses=range(30, 40))
        for _ in range(6):
            assert await scan(machine) == {"a": good(1000), "b": missing(Reason.TIMEOUT)}
            assert await scan(other) == {"a": good(2000)}
        assert gateway.accepted == 1
