"""Is it the device that was meant? Asked on each connection, and again after silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, DeviceRefused, DeviceUnreachable
from edge_agent_drivers.modbus.driver import ModbusDriver
from tests.drivers.profiled import answering, driver, machine
from tests.drivers.stage import Liar, good, honest, reply_to, scan

KEYS = 'driver: modbus, tags: {a: {address: "holding:0"}}, identity: '
CODE = '{address: "holding:10", expect: [340, 341]}'
MODEL = '{address: "input:20", type: string, length: 6, expect: [em34]}'
NARROW = '{address: "holding:10", type: uint32, range: [100000, 200000], registers: 4}'
VALUE = {"03 0000 0001": "03 02 00 07"}


@pytest.mark.parametrize(
    ("identity", "answers"),
    [
        (CODE, {"03 000A 0001": "03 02 01 55"}),
        (MODEL, {"04 0014 0003": "04 06 45 4D 33 34 30 00"}),
        (NARROW, {"03 000A 0004": "03 08 00 02 49 F0 FF FF FF FF"}),
    ],
)
async def test_the_right_device_is_read(identity: str, answers: dict[str, str], tmp_path: Path) -> None:
    """A register with the expected value, a text that holds it, a range in a block that is read whole."""
    async with Liar(answering({**answers, **VALUE})) as device:
        reader = driver(tmp_path, KEYS + identity, device.port)
        await reader.connect()
        assert await scan(reader) == {"a": good(7)}
        await reader.close()


@pytest.mark.parametrize(
    ("identity", "answers", "says"),
    [
        (CODE, {"03 000A 0001": "03 02 00 39"}, "holding:10 is 57, expected 340 or 341"),
        (CODE, {}, r"it refuses holding:10, which tells what it is \(exception 2"),
        (MODEL, {"04 0014 0003": "04 06 50 4D 35 31 31 30"}, "input:20 is 'PM5110', expected em34"),
        (MODEL, {"04 0014 0003": "04 06 FF FF FF FF FF FF"}, "input:20 is None, expected em34"),
        (NARROW, {"03 000A 0004": "03 08 00 00 00 01 00 00 00 00"}, "is 1, expected 100000 to 200000"),
    ],
)
async def test_another_device_is_refused(
    identity: str, answers: dict[str, str], says: str, tmp_path: Path
) -> None:
    """DeviceRefused with what was found and what to do; none of its registers becomes a value."""
    async with Liar(answering({**answers, **VALUE})) as device:
        reader = driver(tmp_path, KEYS + identity, device.port)
        with pytest.raises(DeviceRefused, match=says) as refused:
            await reader.connect()
        assert "identity: off" in str(refused.value)
        with pytest.raises(DeviceUnreachable):
            await reader.read(reader.groups[0])
        await reader.close()
        assert len(device.requests) == 1


def _silence(frame: bytes) -> list[bytes]:
    return []


def _busy(frame: bytes) -> list[bytes]:
    return [reply_to(frame, b"\x83\x06")]


@pytest.mark.parametrize("reply", [_silence, _busy])
async def test_no_answer_is_no_other_device(reply: Callable[[bytes], list[bytes]], tmp_path: Path) -> None:
    """Silence and a busy device say nothing about which one it is: unreachable, to be tried again."""
    async with Liar(reply) as device:
        reader = driver(tmp_path, KEYS + CODE, device.port)
        with pytest.raises(DeviceUnreachable):
            await reader.connect()
        await reader.close()


async def test_identity_is_asked_again_after_each_connect(tmp_path: Path) -> None:
    """A device that was exchanged while it was away is found out."""
    answers = {"03 000A 0001": "03 02 01 55", **VALUE}
    async with Liar(answering(answers)) as device:
        reader = driver(tmp_path, KEYS + CODE, device.port)
        await reader.connect()
        await reader.close()
        device.reply = answering({**answers, "03 000A 0001": "03 02 00 39"})
        with pytest.raises(DeviceRefused):
            await reader.connect()
        await reader.close()


async def test_identity_of_a_profile_can_be_switched_off(tmp_path: Path) -> None:
    """`identity: off` reads a device that the profile would refuse."""
    async with Liar(answering({"03 2010 0001": "03 02 00 05", "03 2012 0001": "03 02 01 60"})) as device:
        keys = "profile: wago-750"
        with pytest.raises(DeviceRefused):
            await driver(tmp_path, keys, device.port).connect()
        reader = driver(tmp_path, f"{keys}, identity: off", device.port)
        await reader.connect()
        assert await scan(reader) == {"firmware_index": good(5), "item_number": good(352)}
        await reader.close()


class Exchanged:
    """A device that is exchanged for another while it is asked for `lost_at`: the connection breaks, or it is
    `quiet` once.

    holding:N is 1000 + N, and 340 at 10. Of the other it is 9000 + N, and 57 at 10.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.lost_at: int | None = None
        self.other = False

    def __call__(self, frame: bytes) -> Sequence[bytes]:
        if int.from_bytes(frame[8:10], "big") == self.lost_at:
            self.lost_at, self.other = None, True
            if self.quiet:
                return []
            raise ConnectionResetError
        base, code = (9000, 57) if self.other else (1000, 340)
        return [honest(frame, lambda address: code if address == 10 else base + address)]


async def several(reader: ModbusDriver, scans: int = 4) -> list[object]:
    """The values of some scans, or the errors in their place."""
    seen: list[object] = []
    for _ in range(scans):
        try:
            seen += [value for value, _ in (await scan(reader)).values()]
        except (DeviceRefused, DeviceUnreachable) as error:
            seen.append(type(error))
    return seen


@pytest.mark.parametrize("lost_at", [0, 20])
@pytest.mark.parametrize("comm", ["{}", "{retries: 2}", "{pipeline: 2}"])
async def test_a_device_that_was_exchanged_gives_no_value(comm: str, lost_at: int, tmp_path: Path) -> None:
    """E12: found out before it is asked for anything, although the scan opens the connection again itself."""
    keys = KEYS.replace('a: {address: "holding:0"}', 'a: {address: "holding:0"}, b: {address: "holding:20"}')
    plant = Exchanged()
    async with Liar(plant) as device:
        reader = driver(tmp_path, f"{keys}{CODE}, comm: {comm}", device.port)
        await reader.connect()
        assert await several(reader, 1) == [1000, 1020]
        plant.lost_at = lost_at
        seen = await several(reader)
        await reader.close()
    assert set(seen) <= {1000, None, DeviceRefused, DeviceUnreachable}
    assert seen[-1] is DeviceRefused


async def test_identity_costs_one_question_for_each_connection(tmp_path: Path) -> None:
    """Not one for each scan."""
    async with Liar(Exchanged()) as device:
        reader = driver(tmp_path, KEYS + CODE, device.port)
        await reader.connect()
        await several(reader, 3)
        await reader.close()
        asked = [int.from_bytes(request[8:10], "big") for request in device.requests]
    assert asked == [10, 0, 0, 0]


async def test_an_exchange_behind_a_gateway_that_stays(tmp_path: Path) -> None:
    """Silence is reason enough to ask again: the connection may be the gateway's, and go on."""
    plant = Exchanged(quiet=True)
    async with Liar(plant) as device:
        reader = driver(tmp_path, f"{KEYS}{CODE}, comm: {{pipeline: 2, timeout: 150ms}}", device.port)
        await reader.connect()
        plant.lost_at = 0
        seen = await several(reader)
        await reader.close()
        assert device.connections == 1
    assert set(seen) <= {None, DeviceRefused, DeviceUnreachable}
    assert seen[-1] is DeviceRefused


async def test_another_machine_opened_the_shared_connection(tmp_path: Path) -> None:
    """A machine that shares it may have brought the connection back: this one asks all the same."""
    plant = Exchanged()
    async with Liar(plant) as device:
        reader = driver(tmp_path, KEYS + CODE, device.port)
        neighbour = driver(tmp_path, KEYS.replace(", identity: ", ", unit_id: 2"), device.port)
        await reader.connect()
        await neighbour.connect()
        assert await scan(reader) == {"a": good(1000)}
        assert await several(neighbour, 1) == [1000]
        plant.lost_at = 0
        await several(neighbour, 1)
        assert await several(neighbour, 1) == [9000]
        assert await several(reader, 1) == [DeviceRefused]
        await neighbour.close()
        await reader.close()


def identified(objects: dict[int, str], refusal: int = 0) -> Callable[[bytes], list[bytes]]:
    """A device that says these things of itself, or refuses to."""

    def reply(frame: bytes) -> list[bytes]:
        if frame[7] != 0x2B:
            return [honest(frame)]
        if refusal:
            return [reply_to(frame, bytes((0xAB, refusal)))]
        told = b"".join(bytes((number, len(text))) + text.encode() for number, text in objects.items())
        return [reply_to(frame, bytes((0x2B, 0x0E, frame[9], 0x82, 0, 0, len(objects))) + told)]

    return reply


ABB = {0: "ABB", 1: "AINFX", 2: "1.0", 4: "ACS880"}


@pytest.mark.parametrize("wanted", ["object: vendor, expect: [abb]", "object: product_name, expect: [ACS]"])
async def test_a_device_says_itself_what_it_is(wanted: str, tmp_path: Path) -> None:
    """Function 43/14, text without regard to case."""
    async with Liar(identified(ABB)) as device:
        reader = driver(tmp_path, f"{KEYS}{{{wanted}}}", device.port)
        await reader.connect()
        assert await scan(reader) == {"a": good(1000)}
        await reader.close()


@pytest.mark.parametrize(
    ("objects", "refusal", "error", "says"),
    [
        ({0: "Danfoss", 1: "FC", 2: "1"}, 0, DeviceRefused, "its vendor is 'Danfoss', expected ABB"),
        ({1: "FC", 2: "1"}, 0, DeviceRefused, "its vendor is None, expected ABB"),
        (ABB, 1, DeviceRefused, "it refuses its vendor, which tells what it is"),
        (ABB, 6, DeviceUnreachable, "exception 6"),
    ],
)
async def test_a_device_that_says_it_is_another(
    objects: dict[int, str], refusal: int, error: type[Exception], says: str, tmp_path: Path
) -> None:
    """Refused with what it said; a device without function 43/14 too, unless it is only busy."""
    async with Liar(identified(objects, refusal)) as device:
        reader = driver(tmp_path, f"{KEYS}{{object: vendor, expect: [ABB]}}", device.port)
        with pytest.raises(error, match=says):
            await reader.connect()
        await reader.close()


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ("{expect: [1]}", "either `address` or `object`"),
        ("{address: 'holding:1', object: vendor, expect: [a]}", "either `address` or `object`"),
        ("{address: 'coil:1', expect: [1]}", "a bit tells no device from another"),
        ("{address: 'holding:1'}", "either `expect`"),
        ("{address: 'holding:1', expect: [1], range: [1, 2]}", "either `expect`"),
        ("{address: 'holding:1', expect: [abc]}", "texts for a string"),
        ("{address: 'holding:1', type: string, expect: [abc]}", "a string needs its length"),
        ("{address: 'holding:1', type: float23, expect: [1]}", "is no type of a register"),
        ("{object: vendor, range: [1, 2]}", "write only `expect`"),
        ("{object: vendor, expect: [1]}", "texts for a string or an object"),
    ],
)
def test_an_identity_that_cannot_be(identity: str, says: str, tmp_path: Path) -> None:
    """Said with what to write instead."""
    with pytest.raises(ConfigError, match=says):
        machine(tmp_path, f"{KEYS}{identity}")


def test_who_only_listens_cannot_ask(tmp_path: Path) -> None:
    """`mode: listen` sends nothing, not even this."""
    with pytest.raises(ConfigError, match="write identity: off"):
        machine(tmp_path, f"{KEYS}{CODE}, mode: listen")
