"""`probe`: registers in every type and byte order, the right one first."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.settings.load import load
from edge_agent_drivers.modbus import probe as probing
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.plausible import rank
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import Liar, ModbusFactory, honest, reply_to
from tests.support.libmodbus import LibmodbusServer

RANGES = ((0, 25), (0, 120), (-40, 150), (0, 1500), (0, 10), (0, 100_000), (0, 16))
KINDS = (
    ("uint16", "H", 1), ("int16", "h", 1), ("uint16", "H", 10), ("int16", "h", 100), ("float32", "f", 1),
    ("float32", "f", 1), ("uint32", "I", 1), ("int32", "i", 1), ("float64", "d", 1),
)  # fmt: skip
"""Type, its letter in `struct`, and how many of the registers' units make one of the range's."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both reads right after each other."""
    monkeypatch.setattr(probing, "BETWEEN_READS", 0.0)


def wire(value: float, letter: str, order: str) -> bytes:
    """The bytes of a value in a byte order, spelled out letter by letter and not by our codec."""
    big = struct.pack(">" + letter, value)
    if len(big) == 2:
        return big
    words = [big[i : i + 2] for i in range(0, len(big), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


class Case:
    """A value of a random kind within a random range, with neighbours, and a second later."""

    def __init__(self, chance: random.Random) -> None:
        self.type, letter, per = chance.choice(KINDS)
        self.order = "ABCD" if letter in "hH" else chance.choice(("ABCD", "CDAB") * 2 + ("DCBA", "BADC"))
        while True:
            low, high = chance.choice(RANGES)
            if not (self.type.startswith("u") and low < 0) and not (letter in "hH" and high * per > 32_000):
                break
        self.range = (float(low), float(high))
        size = struct.calcsize(letter)

        def draw() -> float:
            value = chance.uniform(low, high)
            if letter in "fd":
                return round(value, chance.choice((1, 2, 3))) if chance.random() < 0.5 else value
            return round(value * per)

        value = draw()
        moved = value + chance.choice((0, 1)) * chance.uniform(-0.01, 0.01) * (high - low) * per
        moved = moved if letter in "fd" else max(0 if letter.isupper() else -32_000, round(moved))
        neighbours = chance.choice(("same", "zero"))
        behind = b"".join(
            wire(draw(), letter, self.order) if neighbours == "same" else bytes(size) for _ in range(3)
        )
        self.now = (wire(value, letter, self.order) + behind)[:8]
        self.later = (wire(moved, letter, self.order) + behind)[:8]

    def place(self, words: list[int], later: list[int], expected: tuple[float, float] | None) -> int:
        """Which rank the right reading has, from 0."""
        found = rank(words, later, expected=expected)
        return next(
            number
            for number, one in enumerate(found)
            if any((reading.type, reading.order) == (self.type, self.order) for reading in one.readings)
        )


def refusal(frame: bytes, code: int) -> bytes:
    """An exception as the answer to a request."""
    return reply_to(frame, bytes([frame[7] | 0x80, code]))


def words_of(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


async def test_the_right_reading_is_among_the_first(
    libmodbus: LibmodbusServer, modbus: ModbusFactory
) -> None:
    """Values served by libmodbus: among the top three in 95 % without a range, first in 95 % with one."""
    driver = modbus(libmodbus.port, {"t": {"address": "holding:0"}})
    await driver.connect()
    question = {"do": "read", "unit_id": 1, "table": "holding", "address": 100, "count": 4}
    chance = random.Random(20_816)
    blind, sighted = [], []
    for _ in range(300):
        case = Case(chance)
        libmodbus.put(100, case.now)
        words = (await driver.ask(question))["words"]
        libmodbus.put(100, case.later)
        later = (await driver.ask(question))["words"]
        assert (words, later) == (words_of(case.now), words_of(case.later))
        blind.append(case.place(words, later, None))
        sighted.append(case.place(words, later, case.range))
    assert sum(place < 3 for place in blind) >= 0.95 * len(blind)
    assert sum(place == 0 for place in sighted) >= 0.95 * len(sighted)


def test_more_values_than_a_server_can_serve() -> None:
    """The same over a thousand values, without the server."""
    chance = random.Random(7)
    cases = [Case(chance) for _ in range(1000)]
    places = [
        (case.place(words_of(case.now), words_of(case.later), None),
         case.place(words_of(case.now), words_of(case.later), case.range))
        for case in cases
    ]  # fmt: skip
    assert sum(blind < 3 for blind, _ in places) >= 0.98 * len(places)
    assert sum(sighted == 0 for _, sighted in places) >= 0.97 * len(places)


def test_a_value_is_named_once_with_all_that_give_it() -> None:
    """1237 is one candidate, whatever the type; 237 with a range of 0 to 50 is tenths."""
    first = rank([1237, 61, 18, 0])[0]
    assert (first.best.type, first.best.value) == ("uint16", 1237)
    assert [one.type for one in first.readings] == ["uint16", "int16"]
    tenths = rank([237, 61, 18, 0], expected=(0, 50))[0]
    assert (tenths.best.type, tenths.best.value, tenths.best.scale) == ("uint16", 23.7, 0.1)


def test_what_may_be_negative_is_signed() -> None:
    """Where the range goes below zero the signed type is suggested, though today's value fits both."""
    assert rank([237], expected=(-40, 150))[0].best.type == "int16"


def test_text_is_recognised() -> None:
    """A serial number in registers comes out as text, in both byte layouts; a float is not taken for text."""
    for order, text in (("ABCD", b"EA-PUMP-17919\0\0\0"), ("BADC", b"AEP-MU-P7119\0\0\0\0")):
        first = rank(words_of(text))[0].best
        assert (first.type, first.value) == ("string", text.rstrip(b"\0").decode()), order
    assert rank(words_of(struct.pack(">ff", 2.31, 0.44)))[0].best.type == "float32"


def test_nothing_is_made_of_nan() -> None:
    """NaN, infinity and digits above nine are no values, and say why."""
    by_type = {(one.best.type, one.best.order): one.best for one in rank([0x7FC0, 0, 0, 0])}
    assert by_type["float32", "ABCD"].value is None
    assert by_type["float32", "ABCD"].notes == ["NaN or infinite"]
    assert not by_type["float32", "ABCD"].plausible


async def run(driver: ModbusDriver, address: str = "holding:100", **options: Any) -> int:
    await driver.connect()
    given = {
        "unit_id": 1, "address": address, "address_base": 0, "count": None, "expect": None, "types": (),
        "name": "value", "json_output": False,
    }  # fmt: skip
    return await probing.probe(driver.ask, "the device", **{**given, **options})


async def test_the_yaml_line_passes_check(
    modbus: ModbusFactory, libmodbus: LibmodbusServer, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """Every line that is offered for pasting is valid where it is pasted."""
    libmodbus.put(100, wire(2.31, "f", "CDAB") + b"ABCDEFGH")
    assert await run(modbus(libmodbus.port, {}), count=6, json_output=True, name="vibration") == 0
    said = capsys.readouterr()
    assert "6 registers from holding:100 on, twice, from unit 1 of the device" in said.err
    found = json.loads(said.out)
    assert found["registers"][:2] == words_of(wire(2.31, "f", "CDAB"))
    assert found["candidates"][0]["yaml"] == (
        'vibration: {address: "holding:100", type: float32, byte_order: CDAB}'
    )
    for candidate in found["candidates"]:
        path = tmp_path / "agent.yaml"
        machine = "site: s\nmachines:\n  m:\n    driver: modbus\n    url: tcp://h:502\n    tags:\n      "
        path.write_text(machine + candidate["yaml"] + "\n")
        assert not load(path).errors, candidate["yaml"]


async def test_fewer_registers_where_the_neighbours_do_not_exist(
    modbus: ModbusFactory, device: ModbusServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four are asked for; the device has one more at the edge of its map, and that one is shown."""
    assert await run(modbus(device.port, {}), "holding:19") == 0
    shown = capsys.readouterr().out
    assert "holding:19   03FB" in shown
    assert 'value: {address: "holding:19", type: uint16}' in shown


async def test_only_what_was_asked_for_is_read(modbus: ModbusFactory) -> None:
    """Two requests for the one register with --count 1; function 4 for input; never another address."""
    for address, function in (("holding:7", 3), ("input:7", 4)):
        async with Liar(lambda frame: [honest(frame)]) as liar:
            assert await run(modbus(liar.port, {}), address, count=1) == 0
            assert [frame[7:] for frame in liar.requests] == [bytes([function, 0, 7, 0, 1])] * 2


async def test_a_refused_register_is_said(
    modbus: ModbusFactory, device: ModbusServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such register: the device's own words and exit 1; with a count nothing smaller is tried."""
    assert await run(modbus(device.port, {}), "holding:500") == 1
    assert "exception 2" in capsys.readouterr().err
    async with Liar(lambda frame: [refusal(frame, 2)]) as liar:
        assert await run(modbus(liar.port, {}), count=4) == 1
        assert len(liar.requests) == 1


async def test_silence_is_75(
    modbus: ModbusFactory, device: ModbusServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit that is not there: said, exit 75, and tried with four registers and with one."""
    assert await run(modbus(device.port, {}), unit_id=9) == 75
    assert "did not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"address": "40101"}, "five digits"),
        ({"address": "coil:3"}, "nothing to guess"),
        ({"address": "holding:65535", "count": 2}, "beyond the last address"),
        ({"address": "holding:0", "address_base": 1}, "does not exist"),
        ({"expect": "25"}, "LOW,HIGH"),
        ({"expect": "25,0"}, "below the second"),
        ({"types": ("flaot",)}, "--type flaot"),
    ],
)
async def test_mistakes_are_said_before_anything_is_asked(
    options: dict[str, Any], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line is 2, in words, and the device is left alone."""

    async def never(_question: Any) -> Any:
        raise AssertionError("the device was asked")

    given = {
        "unit_id": 1, "address": "holding:1", "address_base": 0, "count": None, "expect": None, "types": (),
        "name": "value", "json_output": False, **options,
    }  # fmt: skip
    assert await probing.probe(never, "the device", **given) == 2
    assert word in capsys.readouterr().err


async def test_the_last_address_of_all(
    modbus: ModbusFactory, capsys: pytest.CaptureFixture[str], said: Callable[[], list[str]]
) -> None:
    """At 65535 only one register is asked for, as there is no other."""
    async with Liar(lambda frame: [honest(frame, lambda address: address & 0xFF)]) as liar:
        assert await run(modbus(liar.port, {}), "holding:65535") == 0
        assert {frame[8:] for frame in liar.requests} == {bytes([0xFF, 0xFF, 0, 1])}
    assert "--count" not in capsys.readouterr().err
    assert said() == []
