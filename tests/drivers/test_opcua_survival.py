"""The OPC UA driver, run by the sampler as in the agent, through what servers and networks do (F1 to F4)."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge_agent.clock import Clock
from edge_agent.errors import DeviceUnreachable
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import Quality, Reason, SampleBatch, Value
from edge_agent_drivers.opcua.driver import OpcuaDriver
from edge_agent_simulators.opcua_chaos import MISDEEDS, Chaos
from tests.drivers.stage import AT_FIRST, OpcuaFactory, Press, Stage, good, node, scan
from tests.support.faultproxy import FaultProxy

TAGS = {"temperature": node("Temperature"), "count": node("Count"), "gone": node("Nowhere")}
SEED = 11
HEAL = 15.0
"""Seconds within which a machine that is there again must be read again (F1, F2)."""


@pytest.fixture(autouse=True)
async def _as_at_first(press: Press) -> None:
    await press.write(AT_FIRST)


class Heard:
    """What a running sampler passed on."""

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []
        self._came = asyncio.Event()

    def take(self, batch: SampleBatch) -> None:
        self.batches.append(batch)
        self._came.set()

    def values(self, tag: str) -> list[Value | None]:
        """Every value of a tag, oldest first."""
        return [batch.values[batch.names.index(tag)] for batch in self.batches if tag in batch.names]

    async def until(self, tag: str, value: Value | None, seconds: float = HEAL) -> float:
        """Wait until a tag has a value; seconds it took. Fails where it never has."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while not self.values(tag) or self.values(tag)[-1] != value:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pytest.fail(f"{tag} never became {value}; last of it: {self.values(tag)[-3:]}")
        return time.monotonic() - began


@asynccontextmanager
async def sampling(driver: OpcuaDriver) -> AsyncIterator[Heard]:
    """Run a sampler over a driver, as the agent does."""
    heard = Heard()
    task = asyncio.create_task(Sampler("press-2", driver, heard.take, Clock()).run())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_restarted_server_is_read_again(mode: str, press: Press, opcua: OpcuaFactory) -> None:
    """F1: the gap is marked not_connected, and within 15 s every value is read anew."""
    async with sampling(opcua(press.url, TAGS, mode=mode, timeout="1s")) as heard:
        await heard.until("temperature", 20.5)
        await asyncio.to_thread(press.stop)
        await heard.until("temperature", None)
        gap = next(batch for batch in reversed(heard.batches) if "temperature" in batch.names)
        assert gap.status(gap.names.index("temperature")).reason is Reason.NOT_CONNECTED
        await asyncio.to_thread(press.start)
        # Not a change: what is held is read again.
        assert await heard.until("temperature", 20.5) < HEAL
        await press.write({"Count": 11})
        await heard.until("count", 11, 2)


async def read_on(driver: OpcuaDriver) -> None:
    """Read for ten seconds, or until something ends it."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        await driver.read(driver.groups[0])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("notify", [True, False], ids=["with-notification", "without"])
async def test_a_deleted_subscription_is_noticed(
    notify: bool, press: Press, stage: Stage, opcua: OpcuaFactory
) -> None:
    """F3: told or not, it is DeviceUnreachable within three keep-alives (of 1 s); then subscribed anew."""
    driver = opcua(press.url, TAGS, timeout="1s")
    await driver.connect()
    await driver.read(driver.groups[0])
    # Until the server holds publish requests again, and is not asked for more.
    await asyncio.sleep(0.3)
    chaos = Chaos(press.server.running, 1, 1)
    await stage.on(chaos.act("end subscriptions" if notify else "delete subscriptions"))
    began = time.monotonic()
    with pytest.raises(
        DeviceUnreachable, match="ended the subscription" if notify else "not even a keep-alive"
    ):
        await read_on(driver)
    assert time.monotonic() - began < (1.5 if notify else 3 * 1.0 + 1.5)
    await driver.connect()
    assert (await scan(driver))["temperature"] == good(20.5)


async def test_a_closed_session_is_noticed_at_once(press: Press, stage: Stage, opcua: OpcuaFactory) -> None:
    """F2: BadSessionIdInvalid ends the session, it is not tried again and again."""
    driver = opcua(press.url, TAGS)
    await driver.connect()
    await driver.read(driver.groups[0])
    await stage.on(Chaos(press.server.running, 1, 1).act("close sessions"))
    began = time.monotonic()
    with pytest.raises(DeviceUnreachable, match="BadSessionIdInvalid"):
        await read_on(driver)
    assert time.monotonic() - began < 1.5


def tasks_and_files() -> tuple[int, int]:
    """How many tasks and file descriptors there are, after what is garbage has gone."""
    gc.collect()
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))


async def test_chaos_is_survived_and_leaves_nothing_behind(
    press: Press, stage: Stage, opcua: OpcuaFactory
) -> None:
    """F2, F3: 20 misdeeds of the server, HEAL within 15 s each; tasks and files are as many as before."""
    chaos = Chaos(press.server.running, 0, SEED)
    async with sampling(opcua(press.url, TAGS, every="50ms", timeout="500ms")) as heard:
        await heard.until("count", 7)
        before = tasks_and_files()
        slowest = 0.0
        for number in range(20):
            await stage.on(chaos.act(MISDEEDS[number % len(MISDEEDS)]))
            await press.write({"Count": 100 + number})
            slowest = max(slowest, await heard.until("count", 100 + number))
        print(f"slowest to heal: {slowest:.1f} s", chaos.done)
        assert slowest < HEAL
        # A reconnecting in progress has a task or two more for a moment.
        async with asyncio.timeout(5):
            while (now := tasks_and_files()) > before:
                await asyncio.sleep(0.2)
        assert now <= before
    wanted = [Quality.GOOD, Quality.BAD]
    assert all(batch.status(i).quality in wanted for batch in heard.batches for i in range(len(batch.names)))
    assert set(heard.values("count")) <= {None, 7, *range(100, 120)}


@pytest.mark.parametrize("kept", [True, False], ids=["sent-again", "gone-for-good"])
async def test_a_lost_notification_is_made_good_and_counted(
    kept: bool, press: Press, stage: Stage, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """F4: a gap in the sequence is asked for again; where the server forgot it, the values are read."""
    driver = opcua(press.url, TAGS)
    await driver.connect()
    await driver.read(driver.groups[0])
    for lost in (1, 2, 3):
        await stage.on(lose_one(press, kept))
        await press.write({"Count": 30 + lost})
        found: list[Value | None] = []
        end = time.monotonic() + 5
        while 30 + lost not in found and time.monotonic() < end:
            await asyncio.sleep(0.05)
            for batch in await driver.read(driver.groups[0]):
                found += [v for name, v in zip(batch.names, batch.values, strict=True) if name == "count"]
        assert found == [30 + lost]
        assert f"gaps: {lost} messages, {lost if kept else 0} of them sent again" in driver.describe()
    assert len([line for line in said() if "a notification was lost" in line]) == (0 if kept else 1)


async def lose_one(press: Press, kept: bool) -> None:
    """The next notification is not sent; the server keeps it for Republish, or not even that."""
    for one in press.server.running.iserver.subscription_service.subscriptions.values():
        honest = one.pub_result_callback

        async def lossy(result: Any, request: Any, one: Any = one, honest: Any = honest) -> None:
            if not result.NotificationMessage.NotificationData:
                await honest(result, request)
                return
            one.pub_result_callback = honest
            # The request waits on, as if the server had had nothing to say.
            honest.__self__._publish_requests.appendleft(request)
            if not kept:
                one._not_acknowledged_results.pop(result.NotificationMessage.SequenceNumber)

        if one.pub_request_callback is not None:
            one.pub_result_callback = lossy


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_half_open_connection_is_given_up_and_read_again(
    mode: str, press: Press, opcua: OpcuaFactory
) -> None:
    """Everything is swallowed: told within three keep-alives, HEAL within 15 s once it passes again."""
    async with FaultProxy("127.0.0.1", urlsplit(press.url).port or 0) as proxy:
        url = f"opc.tcp://127.0.0.1:{proxy.port}"
        async with sampling(opcua(url, TAGS, mode=mode, timeout="1s")) as heard:
            await heard.until("temperature", 20.5)
            proxy.to_client.swallow = proxy.to_server.swallow = True
            assert await heard.until("temperature", None) < 3 * 1.0 + 2.5
            await press.write({"Temperature": 44.0})
            proxy.to_client.clear()
            proxy.to_server.clear()
            assert await heard.until("temperature", 44.0) < HEAL


async def test_a_constant_tag_is_neither_stale_nor_missing(press: Press, opcua: OpcuaFactory) -> None:
    """Freshness is the keep-alive: what never changes stays good, and is passed on every max_interval."""
    tags = {"count": node("Count") | {"max_interval": "500ms"}}
    async with sampling(opcua(press.url, tags, timeout="1s")) as heard:
        await heard.until("count", 7)
        await asyncio.sleep(4.2)
    # The last batch is the end of the sampler itself.
    [*held, end] = heard.batches
    assert 5 <= len(held) <= 10
    assert all(batch.values == [7] and not batch.statuses for batch in held)
    assert end.status(0).reason is Reason.NOT_CONNECTED
