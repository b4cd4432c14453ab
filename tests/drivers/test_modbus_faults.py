"""The faults E1 to E10 of a Modbus device, each with the criterion it has to meet (drivers/README.md).

The device's registers are known for every moment (`oracle`), so that FAKE, the values that no question was
answered with, can be counted; it has to be 0 everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from edge_agent.clock import Clock
from edge_agent.errors import DeviceUnreachable
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import Quality, Reason, SampleBatch
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.faults import BadReply, LineFault, NoAnswer, WrongCount
from edge_agent_drivers.modbus.mbap import frame
from edge_agent_drivers.modbus.pdu import Question
from tests.drivers.mutations import any_question, in_pieces, lying_length, right_answer
from tests.drivers.oracle import Asked, Oracle, Pieces, honestly, nothing, tags
from tests.drivers.stage import HangUp, ModbusFactory, connect_in_time, missing, reply_to, scan
from tests.drivers.test_modbus_line import Wire, connected
from tests.support.faultproxy import FaultProxy

TAGS = tags("holding.0", "holding.30", "coil.3", "discrete.9", "input.5")


def outcome(wire: Wire, question: Question, *pieces: bytes) -> bytes | LineFault | None:
    """What becomes of a question when these pieces come; None: nothing, so far."""
    answer = wire.connection.ask(question)
    for piece in pieces:
        wire.feed(piece)
    return answer.result() if answer.done() else None


def fresh(wire: Wire) -> Wire:
    """The next connection."""
    wire.connection.close()
    return Wire()


async def scans_without_fakes(driver: ModbusDriver, device: Oracle, count: int) -> tuple[int, int]:
    """Scan so often, connecting again where the device was away: how many values were good, how many bad."""
    good = bad = 0
    for _ in range(count):
        before = device.sequence
        try:
            found = await scan(driver)
        except DeviceUnreachable:
            with contextlib.suppress(DeviceUnreachable):
                await driver.connect()
            continue
        assert device.fakes(((name, value) for name, (value, _) in found.items()), before) == []
        assert all((value is None) == (reason is not Reason.NONE) for value, reason in found.values())
        there = sum(value is not None for value, _ in found.values())
        good, bad = good + there, bad + len(found) - there
    return good, bad


# E1 No answer ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def sampled(*drivers: ModbusDriver) -> AsyncIterator[list[list[SampleBatch]]]:
    """Samplers at work; what each of them emitted."""
    emitted: list[list[SampleBatch]] = [[] for _ in drivers]
    running = [
        asyncio.create_task(Sampler(f"m{i}", driver, emitted[i].append, Clock()).run())
        for i, driver in enumerate(drivers)
    ]
    yield emitted
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_e1_a_silent_device_is_unreachable_and_costs_the_others_nothing(modbus: ModbusFactory) -> None:
    """It is asked less and less often, the others keep >= 95 % of their cadence, and it heals by itself."""
    async with Oracle(nothing) as dead, Oracle() as one, Oracle() as two:
        drivers = [modbus(device.port, TAGS, every="100ms") for device in (dead, one, two)]
        async with sampled(*drivers) as (silent, *others):
            began = time.monotonic()
            await asyncio.sleep(3)
            seconds = time.monotonic() - began
            for batches in others:
                assert sum(not batch.statuses for batch in batches) >= 0.95 * seconds / 0.1
            assert [set(batch.statuses.values()) for batch in silent] == [
                {(Quality.BAD, Reason.NOT_CONNECTED)}
            ]
            assert 2 <= dead.connections <= 2 * 4
            assert len(dead.requests) <= 2 * 4
            dead.behave = honestly
            async with asyncio.timeout(5):
                while len(silent) < 3:
                    await asyncio.sleep(0.05)
            assert not silent[-1].statuses


async def test_e1_a_silent_unit_costs_those_on_its_connection_next_to_nothing(modbus: ModbusFactory) -> None:
    """Three units behind one gateway, one of them dead: the others keep >= 95 % of their cadence."""

    def behave(asked: Asked, right: bytes) -> Pieces:
        return [right] if asked.unit < 3 else []

    async with Oracle(behave) as gateway:
        drivers = [
            modbus(gateway.port, TAGS, every="100ms", unit_id=unit, comm={"timeout": "50ms"})
            for unit in (1, 2, 3)
        ]
        async with sampled(*drivers) as (*others, silent):
            began = time.monotonic()
            await asyncio.sleep(3)
            seconds = time.monotonic() - began
            for batches in others:
                assert sum(not batch.statuses for batch in batches) >= 0.95 * seconds / 0.1
            assert [set(batch.statuses.values()) for batch in silent] == [
                {(Quality.BAD, Reason.NOT_CONNECTED)}
            ]
        assert gateway.most_open == 1


# E2 Late answer after the timeout ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
async def test_e2_100_000_late_replies_answer_nothing(seed: int) -> None:
    """Replies to earlier questions come before, after and instead of the right one: FAKE = 0, right ones all.

    They come to the same connection, or to the next one as through a gateway. Questions repeat after a while,
    as those of a scan do, so that only the transaction tells a late reply from the right one.
    """
    rng = random.Random(seed)
    wire, late, earlier = Wire(), 0, deque[bytes](maxlen=50)
    for n in range(15_000):
        question = Question(n % 65535 + 1, 1, Table.HOLDING, rng.choice((0, 30)), rng.choice((1, 2)))
        asked = Asked.of(frame(question))
        stale = rng.choices(earlier, k=rng.randrange(4)) if earlier else []
        late += len(stale)
        right = asked.reply(n)
        split = rng.randint(0, len(stale))
        for piece in stale[:split]:
            wire.feed(piece)
        answered = rng.randrange(4) > 0
        pieces = [*stale[split:], *([right] if answered else [])]
        got = outcome(wire, question, *([b"".join(pieces)] if rng.randrange(2) and pieces else pieces))
        assert got == (asked.content(n) if answered else None)
        earlier.append(right)
        if not answered and rng.randrange(2):
            # The line closes after silence; a gateway may send what is late to whoever is there now.
            wire = fresh(wire)
    assert late > 100_000 / 4 - 5_000


async def test_e2_late_replies_over_sockets(modbus: ModbusFactory) -> None:
    """Thousands of late replies, in the same connection and in the one after a timeout: FAKE = 0."""
    rng = random.Random(2)
    earlier = deque[bytes](maxlen=20)
    late = 0

    def behave(_asked: Asked, right: bytes) -> Pieces:
        nonlocal late
        stale = rng.choices(earlier, k=rng.randrange(3)) if earlier else []
        late += len(stale)
        earlier.append(right)
        if rng.randrange(60) == 0:
            return stale
        return [*stale, right] if rng.randrange(2) else [b"".join([*stale, right])]

    async with Oracle(behave) as device:
        driver = modbus(device.port, TAGS, comm={"timeout": "20ms"})
        await connect_in_time(driver)
        good, bad = await scans_without_fakes(driver, device, 800)
        assert late > 3000
        assert good > bad > 0


async def test_e2_replies_around_the_timeout(modbus: ModbusFactory) -> None:
    """Through a network that takes half to twice the timeout: some come in time, none is taken late."""
    async with Oracle() as device, FaultProxy("127.0.0.1", device.port) as network:
        network.to_client.delay, network.to_client.jitter = 0.01, 0.03
        driver = modbus(network.port, TAGS, comm={"timeout": "25ms"})
        await connect_in_time(driver)
        good, bad = await scans_without_fakes(driver, device, 20)
        assert min(good, bad) > 10


# E3 Wrong transaction, unit or function ----------------------------------------------------------------


def wrong_transaction(question: Question, rng: random.Random) -> Question:
    """Another transaction, among them 0 and neighbours."""
    others = (0, question.transaction - 1, question.transaction + 1, rng.randrange(65536))
    return question._replace(transaction=rng.choice([t % 65536 for t in others if t != question.transaction]))


def wrong_unit(question: Question, rng: random.Random) -> Question:
    """Another unit, among them 0 and 255."""
    return question._replace(unit=rng.choice([u for u in (0, 255, rng.randrange(256)) if u != question.unit]))


@pytest.mark.parametrize("other", [wrong_transaction, wrong_unit])
async def test_e3_10_000_replies_to_another_transaction_or_unit(
    other: Callable[[Question, random.Random], Question],
) -> None:
    """Never taken: FAKE = 0; the right one is, if it comes behind."""
    rng = random.Random(3)
    wire = Wire()
    for n in range(10_000):
        question = any_question(n, rng)
        wrong, _ = right_answer(other(question, rng), rng)
        assert outcome(wire, question, wrong) is None
        right, content = right_answer(question, rng)
        assert outcome(wire, question, wrong + right) == content


async def test_e3_10_000_replies_with_another_function() -> None:
    """Whatever function a reply has, right in everything else, only the one asked for is taken: FAKE = 0."""
    rng = random.Random(3)
    for n in range(10_000):
        question = any_question(n, rng)
        right, content = right_answer(question, rng)
        function = n % 256
        got = outcome(Wire(), question, right[:7] + bytes((function,)) + right[8:])
        if function == question.table.function:
            assert got == content
        else:
            assert isinstance(got, LineFault)


# E4 Wrong count ----------------------------------------------------------------------------------------


async def test_e4_10_000_replies_with_another_count() -> None:
    """More or fewer bytes than asked for, in agreement with the byte count or not: FAKE = 0.

    A device that pads bits sends whole bytes; what is compared is how many.
    """
    rng = random.Random(4)
    faults = set()
    for n in range(10_000):
        question = any_question(n, rng)
        sent = rng.choice([k for k in range(252) if k != question.answer_bytes])
        said = sent if rng.randrange(2) else rng.choice((question.answer_bytes, rng.randrange(256)))
        content = bytes((question.table.function, said)) + rng.randbytes(sent)
        got = outcome(Wire(), question, reply_to(frame(question), content))
        assert isinstance(got, BadReply)
        faults.add(type(got))
    assert faults == {WrongCount, BadReply}


async def test_e4_wrong_counts_through_the_driver(modbus: ModbusFactory) -> None:
    """Registers too few or too many, bits too: bad comm_failure, until the right reply comes."""
    rng = random.Random(4)

    def behave(asked: Asked, right: bytes) -> Pieces:
        length = rng.choice([k for k in range(12) if k != right[8]])
        return [reply_to(asked.frame, bytes((asked.function, length)) + rng.randbytes(length))]

    async with Oracle(behave) as device:
        driver = modbus(device.port, TAGS, comm={"retest": "50ms"})
        await driver.connect()
        for _ in range(200):
            found = await scan(driver)
            assert set(found.values()) == {missing(Reason.COMM_FAILURE)}
        device.behave = honestly
        await asyncio.sleep(0.06)
        good, _ = await scans_without_fakes(driver, device, 10)
        assert good >= 5 * len(TAGS)


# E5 Short frames, lying lengths, two replies in one segment, single bytes ------------------------------


def replies(count: int, seed: int) -> Iterator[tuple[Question, bytes, bytes, random.Random]]:
    """Questions with their right replies and contents."""
    rng = random.Random(seed)
    for n in range(count):
        question = any_question(n, rng)
        yield question, *right_answer(question, rng), rng


async def test_e5_10_000_short_frames_and_lying_lengths() -> None:
    """A reply that was cut is no answer; one that lies about its length never becomes one: FAKE = 0."""
    for question, right, _, rng in replies(10_000, 5):
        behind, _ = right_answer(question._replace(transaction=question.transaction ^ 1), rng)
        assert outcome(Wire(), question, right[: rng.randrange(len(right))]) is None
        lie = lying_length(right, question, rng)
        got = outcome(Wire(), question, lie, behind)
        assert not isinstance(got, bytes) or lie == right


async def test_e5_10_000_times_two_replies_in_one_segment() -> None:
    """The first is the answer, the second none, also not to the next question: right ones 100 %."""
    wire = Wire()
    for question, right, content, rng in replies(10_000, 6):
        second = rng.choice(
            (right, right_answer(question, rng)[0], right_answer(any_question(9, rng), rng)[0])
        )
        assert outcome(wire, question, right + second) == content


async def test_e5_10_000_replies_in_single_bytes() -> None:
    """TCP may cut anywhere: right ones 100 %."""
    wire = Wire()
    for question, right, content, _ in replies(10_000, 7):
        assert outcome(wire, question, *(right[i : i + 1] for i in range(len(right)))) == content


@pytest.mark.parametrize("pieces", [1, 2])
async def test_e5_10_000_short_replies_among_several_under_way(pieces: int) -> None:
    """A reply that lacks bytes is not made whole with those of the next one (`comm.pipeline`): FAKE = 0.

    Where exactly as many bytes are missing as the next replies have, nothing in this framing tells.
    """
    rng = random.Random(8)
    for _ in range(10_000):
        first = rng.randrange(1, 60_000)
        questions = [any_question(first + i, rng) for i in range(3)]
        wire = Wire()
        answers = [wire.connection.ask(question) for question in questions]
        right = [right_answer(question, rng) for question in questions]
        following = right[1][0] + right[2][0]
        missing = rng.randint(1, len(right[0][0]) - 1)
        if missing in (len(right[1][0]), len(following)):
            continue
        short = right[0][0][:-missing]
        for piece in [short + following] if pieces == 1 else [short, following]:
            wire.feed(piece)
        for answer, (_, content) in zip(answers, right, strict=True):
            if answer.done() and isinstance(answer.result(), bytes):
                assert answer.result() == content


async def test_e5_10_000_times_several_under_way() -> None:
    """Right replies to several questions are all taken, in any order, cut anywhere: right ones 100 %."""
    rng = random.Random(9)
    wire = Wire()
    for n in range(0, 30_000, 3):
        questions = [any_question(n + i, rng) for i in range(3)]
        answers = [wire.connection.ask(question) for question in questions]
        right = [right_answer(question, rng) for question in questions]
        order = rng.sample(right, 3)
        for piece in in_pieces(b"".join(reply for reply, _ in order), rng):
            wire.feed(piece)
        assert [answer.result() for answer in answers] == [content for _, content in right]


async def test_e5_single_bytes_over_sockets(modbus: ModbusFactory) -> None:
    """Both directions byte by byte: every value is there."""
    async with Oracle() as device, FaultProxy("127.0.0.1", device.port) as network:
        network.to_client.trickle = network.to_server.trickle = 0.0
        driver = modbus(network.port, TAGS, comm={"timeout": "2s"})
        await driver.connect()
        assert await scans_without_fakes(driver, device, 20) == (20 * len(TAGS), 0)
        assert network.tally.trickled > 20 * len(TAGS) * (12 + 10)


# E6 Trickle --------------------------------------------------------------------------------------------


async def test_e6_a_trickle_ends_at_the_timeout() -> None:
    """Bytes that come one by one for ever are no sign of life: over by the timeout + 100 ms, and closed."""
    async with Oracle() as device, FaultProxy("127.0.0.1", device.port) as network:
        network.to_client.trickle = 0.05
        took = []
        async with connected(network.port, timeout=0.2) as line:
            for _ in range(5):
                began = time.monotonic()
                with pytest.raises(NoAnswer):
                    await line.ask(1, Table.HOLDING, 0, 2)
                took.append(time.monotonic() - began)
                assert not line.connected
                await line.open()
        assert network.tally.trickled >= 5 * 3
        # The median, because a busy machine may be late once.
        assert 0.19 < statistics.median(took) < 0.2 + 0.1


# E8 Exceptions -----------------------------------------------------------------------------------------

MEANINGS = {
    1: (Reason.CONFIG_ERROR, "illegal function"),
    2: (Reason.ILLEGAL_ADDRESS, "illegal data address"),
    3: (Reason.CONFIG_ERROR, "illegal data value"),
    4: (Reason.DEVICE_FAILURE, "device failure"),
    5: (Reason.COMM_FAILURE, "acknowledge"),
    6: (Reason.COMM_FAILURE, "busy"),
    7: (Reason.DEVICE_FAILURE, "negative acknowledge"),
    8: (Reason.DEVICE_FAILURE, "memory parity"),
    9: (Reason.DEVICE_FAILURE, "does not define"),
    10: (Reason.NOT_CONNECTED, "gateway path unavailable"),
    11: (Reason.TIMEOUT, "gateway target did not respond"),
}
"""Exception -> (the reason of its tags, part of what is said). Written out, not taken from the driver."""
ROW = tags(*(f"holding.{2 * n}" for n in range(16)), "input.5")
REFUSED = 11


def refusing(code: int) -> Callable[[Asked, bytes], Pieces]:
    """A device that has no holding register 11."""

    def behave(asked: Asked, right: bytes) -> Pieces:
        touched = asked.function == 3 and asked.address <= REFUSED < asked.address + asked.quantity
        return [reply_to(asked.frame, bytes((0x83, code)))] if touched else [right]

    return behave


@pytest.mark.parametrize("code", MEANINGS)
async def test_e8_each_exception_has_a_meaning_a_quality_and_a_price(
    code: int, modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """The tags are bad with a stated reason, and it is said once in words.

    Exceptions 2 and 3 search for the register once; then it alone is bad. The others cost no more questions.
    """
    reason, words = MEANINGS[code]
    async with Oracle(refusing(code)) as device:
        driver = modbus(device.port, ROW, comm={"retest": "1h"})
        await driver.connect()
        for n in range(20):
            before = len(device.requests)
            found = await scan(driver)
            assert found["holding.10"] == missing(reason)
            others = [name for name, (value, _) in found.items() if value is None and name != "holding.10"]
            assert others == [] if code in (2, 3) else set(others) <= {name for name in ROW if name[0] == "h"}
            asked = len(device.requests) - before
            if code in (2, 3):
                # Once: a block of 16 values is halved four times, each time into two.
                assert asked == 3 if n else asked <= 2 + 8
            else:
                assert asked == 2
        assert len([line for line in said() if words in line]) == 1
        device.behave = honestly
        if code not in (2, 3):
            assert all(value is not None for value, _ in (await scan(driver)).values())


async def test_e8_a_refused_register_is_searched_once_and_tried_once_per_retest(
    modbus: ModbusFactory,
) -> None:
    """Never more than one search; afterwards only the register itself is tried, once per retest."""
    async with Oracle(refusing(2)) as device:
        driver = modbus(device.port, ROW, comm={"retest": "200ms"})
        await driver.connect()
        await scan(driver)
        before, began = len(device.requests), time.monotonic()
        while time.monotonic() - began < 1.1:
            await scan(driver)
            await asyncio.sleep(0.02)
        touching = [
            asked
            for asked in map(Asked.of, device.requests[before:])
            if asked.function == 3 and asked.address <= REFUSED < asked.address + asked.quantity
        ]
        assert {(asked.address, asked.quantity) for asked in touching} == {(10, 2)}
        assert 3 <= len(touching) <= (time.monotonic() - began) / 0.2 + 1


# E10 Resets, and devices with room for one connection --------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7])
async def test_e10_a_reset_on_each_nth_request(every: int, modbus: ModbusFactory) -> None:
    """Each value of each scan is read: the block is asked for once more on a new connection, as long as
    anything is answered at all; FAKE = 0, and the device never sees two sockets of ours."""
    count = 0

    def behave(_asked: Asked, right: bytes) -> Sequence[bytes]:
        nonlocal count
        count += 1
        if count % every == 0:
            raise HangUp
        return [right]

    async with Oracle(behave) as device:
        device.only_one = True
        driver = modbus(device.port, TAGS)
        await driver.connect()
        scans = 20 * min(every, 3)
        good, bad = await scans_without_fakes(driver, device, scans)
        assert device.most_open == 1
        assert count // every <= device.connections <= count // every + scans
        assert (good, bad) == ((scans * len(TAGS), 0) if every > 1 else (0, 0))


async def test_e10_connecting_again_keeps_a_gap_whatever_the_timeout(modbus: ModbusFactory) -> None:
    """Where a connection brought no answer the next one is made a tenth of a second later, and reads."""

    def behave(_asked: Asked, right: bytes) -> Sequence[bytes]:
        if device.connections % 3:
            raise HangUp
        return [right]

    async with Oracle(behave) as device:
        driver = modbus(device.port, tags("holding.0"), comm={"timeout": "50ms"})
        began = time.monotonic()
        await connect_in_time(driver)
        good, _ = await scans_without_fakes(driver, device, 6)
        assert good >= 2
        assert device.connections <= 2 + (time.monotonic() - began) / 0.1


async def test_e10_what_comes_and_goes_does_not_fill_the_journal(
    modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """Dozens of faults on any block, in words that differ each time, are said once per block and `retest`."""
    rng = random.Random(11)

    def behave(_asked: Asked, right: bytes) -> Sequence[bytes]:
        if rng.randrange(4) == 0:
            return [rng.randbytes(2) + right[2:]]
        return [right]

    async with Oracle(behave) as device:
        driver = modbus(device.port, TAGS, comm={"timeout": "10ms", "retest": "1h"})
        await connect_in_time(driver)
        _, bad = await scans_without_fakes(driver, device, 60)
        assert bad > 30
        lines = said()
        for words in ("answered for unit", "answers again", "tried again in"):
            assert len([line for line in lines if words in line]) <= 3 * len(TAGS), words


async def test_e10_a_device_with_room_for_one_connection(modbus: ModbusFactory) -> None:
    """Timeouts, resets, closed connections one after the other: never two sockets, and it heals."""
    rng = random.Random(10)

    def behave(_asked: Asked, right: bytes) -> Sequence[bytes]:
        match rng.randrange(8):
            case 0:
                raise HangUp
            case 1:
                raise ConnectionAbortedError
            case 2:
                return []
            case 3:
                return [right[:-1]]
        return [right]

    async with Oracle(behave) as device:
        device.only_one = True
        driver = modbus(device.port, TAGS, comm={"timeout": "10ms"})
        await connect_in_time(driver)
        good, bad = await scans_without_fakes(driver, device, 50)
        assert min(good, bad) > 10
        assert device.most_open == 1
        assert device.connections > 20
        device.behave = honestly
        async with asyncio.timeout(10):
            # Ten milliseconds are short for a busy machine.
            healed = (0, 0)
            while healed != (3 * len(TAGS), 0):
                with contextlib.suppress(DeviceUnreachable):
                    await driver.connect()
                    healed = await scans_without_fakes(driver, device, 3)
        assert device.most_open == 1
