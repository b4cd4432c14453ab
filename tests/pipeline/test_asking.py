"""Questions to a device between its scans."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.pipeline import sampler as sampling
from edge_agent.pipeline.endpoints import same_endpoint
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import ReadGroup, SampleBatch, Tag


class Oracle(Driver):
    """A machine in memory that is read every 20 ms and asked now and then."""

    def __init__(self) -> None:
        super().__init__("m", MachineSettings(driver="oracle", url="oracle:"), Clock())
        self._stamp = Stamp(Clock())
        self.connects = 0
        self.busy = 0
        self.most_busy = 0
        self.scans = 0
        self.down = False
        self.unreadable = False
        self.slow = 0.0

    @property
    def groups(self) -> tuple[ReadGroup, ...]:
        return (ReadGroup((Tag("t"),), 0.02),)

    async def connect(self) -> None:
        self.connects += 1
        if self.down:
            raise DeviceUnreachable("no route to host")

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await asyncio.sleep(self.slow)
            yield
        finally:
            self.busy -= 1

    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        async with self._alone():
            if self.unreadable:
                raise DeviceUnreachable("wrong unit id")
            self.scans += 1
            return [SampleBatch("m", group.names, self._stamp.next(), [1.0])]

    async def ask(self, question: Mapping[str, Any]) -> Any:
        async with self._alone():
            if question["do"] == "break":
                raise KeyError("a mistake")
            if question["do"] != "echo":
                raise DeviceRefused("no such question")
            return question["word"]

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def sampled(driver: Oracle) -> AsyncIterator[Sampler]:
    sampler = Sampler("m", driver, lambda _batch: None, Clock())
    task = asyncio.create_task(sampler.run())
    try:
        async with asyncio.timeout(10):
            yield sampler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_read(driver: Oracle, scans: int = 1) -> None:
    start = driver.scans
    while driver.scans < start + scans:
        await asyncio.sleep(0.005)


async def test_questions_wait_for_their_turn_and_scans_go_on() -> None:
    """Twenty askers at once: never two things at a time on the driver, and the scans keep their pace."""
    driver = Oracle()
    driver.slow = 0.005
    async with sampled(driver) as sampler:
        await until_read(driver)
        before = driver.scans
        words = await asyncio.gather(*(sampler.ask({"do": "echo", "word": i}) for i in range(20)))
        assert words == list(range(20))
        assert driver.most_busy == 1
        assert driver.scans - before >= 2
        assert driver.connects == 1


async def test_a_refused_question_does_not_end_the_session() -> None:
    """No is an answer; the connection stays."""
    driver = Oracle()
    async with sampled(driver) as sampler:
        await until_read(driver)
        with pytest.raises(DeviceRefused, match="no such question"):
            await sampler.ask({"do": "write"})
        await until_read(driver, 2)
        assert driver.connects == 1


async def test_a_mistake_in_the_driver_is_told_to_the_asker() -> None:
    """Whoever asked is not left waiting, and the machine is read again afterwards."""
    driver = Oracle()
    async with sampled(driver) as sampler:
        await until_read(driver)
        with pytest.raises(DeviceUnreachable, match="a mistake"):
            await sampler.ask({"do": "break"})
        await until_read(driver, 2)
        assert driver.connects == 2


async def test_a_question_does_not_wait_for_the_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that connects and cannot be read is connected for the question; one that is away is tried."""
    monkeypatch.setattr(sampling, "FIRST_RETRY", 60.0)
    driver = Oracle()
    driver.unreadable = True
    async with sampled(driver) as sampler:
        while not sampler.state.failures:
            await asyncio.sleep(0.005)
        assert await sampler.ask({"do": "echo", "word": "a"}) == "a"
        driver.down = True
        while sampler.state.failures < 2:
            await asyncio.sleep(0.005)
        with pytest.raises(DeviceUnreachable, match="no route"):
            await sampler.ask({"do": "echo", "word": "a"})


async def test_who_has_gone_away_is_not_answered() -> None:
    """A question whose asker hung up is not put to the device any more."""
    driver = Oracle()
    driver.slow = 0.05
    async with sampled(driver) as sampler:
        await until_read(driver)
        gone = asyncio.ensure_future(sampler.ask({"do": "break"}))
        await asyncio.sleep(0)
        gone.cancel()
        assert await sampler.ask({"do": "echo", "word": "a"}) == "a"
        assert driver.connects == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tcp://10.0.4.21:502", "tcp://10.0.4.21", True),
        ("tcp://10.0.4.21:502", "udp://10.0.4.21:502", True),
        ("tcp://10.0.4.21:502", "tcp://10.0.4.21:503", False),
        ("tcp://10.0.4.21:502", "tcp://10.0.4.22:502", False),
        ("tcp://localhost:502", "tcp://127.0.0.1:502", True),
        ("opc.tcp://127.0.0.1/press", "opc.tcp://127.0.0.1:4840", True),
        ("rtu:///dev/null?baudrate=9600", "rtu:///dev/../dev/null", True),
        ("rtu:///dev/null", "rtu:///dev/zero", False),
        ("tcp://[::1]:502", "tcp://[::1]", True),
        ("tcp://h:x", "tcp://h:502", False),
    ],
)
async def test_what_is_the_same_connection(one: str, other: str, same: bool) -> None:
    """Host and port, or the serial line, whatever they are called."""
    assert await same_endpoint(one, other) is same
