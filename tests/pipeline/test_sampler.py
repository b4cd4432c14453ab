"""The sampler: cadence, reconnecting, and a machine that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import DeviceUnreachable
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import ConditionReport, Quality, ReadGroup, Reason, SampleBatch, Tag

SETTINGS = MachineSettings(driver="scripted", url="scripted:")


class Scripted(Driver):
    """A machine in memory: it counts its scans and fails when told to."""

    def __init__(self, *rates: float) -> None:
        super().__init__("m", SETTINGS, Clock())
        self._groups = tuple(ReadGroup((Tag(f"t{i}"),), rate) for i, rate in enumerate(rates))
        self._stamp = Stamp(Clock())
        self.connects = 0
        self.closes = 0
        self.scans: list[tuple[float, str]] = []
        self.down = False
        self.broken = False
        self.slow = 0.0
        self.reports: list[ConditionReport] = []

    @property
    def groups(self) -> tuple[ReadGroup, ...]:
        return self._groups

    async def connect(self) -> None:
        self.connects += 1
        if self.down:
            raise DeviceUnreachable("no route to host")

    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        if self.broken:
            raise KeyError("a fault of the driver itself")
        if self.down:
            raise DeviceUnreachable("connection lost")
        if self.slow:
            await asyncio.sleep(self.slow)
        self.scans.append((asyncio.get_running_loop().time(), group.names[0]))
        return [SampleBatch("m", group.names, self._stamp.next(), [1.0])]

    def conditions(self) -> ConditionReport | None:
        return self.reports.pop(0) if self.reports else None

    async def close(self) -> None:
        self.closes += 1


@contextlib.asynccontextmanager
async def sampling(driver: Scripted, machine: str = "m") -> AsyncIterator[tuple[Sampler, list[SampleBatch]]]:
    batches: list[SampleBatch] = []
    sampler = Sampler(machine, driver, batches.append, Clock())
    task = asyncio.create_task(sampler.run())
    try:
        yield sampler, batches
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_each_group_has_its_own_rate() -> None:
    """Two scan rates on one machine are both kept, without drift."""
    driver = Scripted(0.02, 0.1)
    async with sampling(driver):
        await asyncio.sleep(1.05)
    fast = [at for at, name in driver.scans if name == "t0"]
    slow = [at for at, name in driver.scans if name == "t1"]
    assert 45 <= len(fast) <= 54
    assert 9 <= len(slow) <= 12
    assert abs((fast[-1] - fast[0]) / (len(fast) - 1) - 0.02) < 0.003


async def test_no_burst_after_a_slow_scan() -> None:
    """Slots that passed during a slow scan are counted as overruns, never caught up."""
    driver = Scripted(0.02)
    async with sampling(driver) as (sampler, _):
        await until(lambda: len(driver.scans) >= 3)
        driver.slow = 0.2
        await until(lambda: len(driver.scans) >= 5)
        driver.slow = 0.0
        before = len(driver.scans)
        await asyncio.sleep(0.1)
        assert len(driver.scans) - before <= 8
        assert sampler.state.overruns >= 9


async def test_a_lost_machine_comes_back_by_itself() -> None:
    """A failure closes, says not_connected once for every tag, and connects again when it can."""
    driver = Scripted(0.02)
    async with sampling(driver) as (sampler, batches):
        await until(lambda: len(driver.scans) >= 2)
        driver.down = True
        await until(lambda: not sampler.state.connected)
        driver.down = False
        before = len(driver.scans)
        await until(lambda: len(driver.scans) > before + 1)
        lost = [batch for batch in batches if batch.statuses]
    assert len(lost) == 1
    assert lost[0].status(0) == (Quality.BAD, Reason.NOT_CONNECTED)
    assert driver.connects >= 2
    assert driver.closes >= 1


async def test_a_fault_of_the_driver_is_contained() -> None:
    """An unexpected exception in a driver is treated as a failure of that machine, not of the agent."""
    driver = Scripted(0.02)
    driver.broken = True
    async with sampling(driver) as (sampler, _):
        await until(lambda: sampler.state.failures >= 1)
        driver.broken = False
        await until(lambda: sampler.state.connected)


async def test_stopping_says_not_connected() -> None:
    """When the agent stops, the last word on every tag is that nobody looks any more."""
    driver = Scripted(0.02)
    async with sampling(driver) as (_, batches):
        await until(lambda: len(driver.scans) >= 1)
    assert batches[-1].status(0).reason is Reason.NOT_CONNECTED


async def test_a_swallowed_cancellation_still_ends_the_sampler() -> None:
    """A library that turns a cancellation into a failed connect (wait_for of 3.11) does not keep us alive."""

    class Swallowing(Scripted):
        async def connect(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise DeviceUnreachable("connection refused") from None

    async with asyncio.timeout(5), sampling(Swallowing(0.02)):
        await asyncio.sleep(0.05)


async def test_a_cancellation_lost_in_a_connect_that_succeeds_still_ends_the_sampler() -> None:
    """asyncua connects through wait_for as well: the session would go on scanning for ever."""

    class Losing(Scripted):
        async def connect(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async with asyncio.timeout(5), sampling(Losing(0.02)):
        await asyncio.sleep(0.05)


async def test_the_state_of_a_dead_machine_is_told() -> None:
    """`on_try` is called after a failure too, so that nobody goes on showing good tags."""
    driver = Scripted(0.02)
    seen: list[bool] = []
    async with sampling(driver) as (sampler, _):
        sampler.on_try = lambda: seen.append(sampler.state.connected)
        await until(lambda: True in seen)
        driver.down = True
        await until(lambda: seen[-1] is False)


async def test_machines_do_not_all_scan_at_the_same_instant() -> None:
    """Twenty machines of the same rate begin spread over their period, and stay so."""
    drivers = [Scripted(0.4) for _ in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        for n, driver in enumerate(drivers):
            await stack.enter_async_context(sampling(driver, f"pump-{n}"))
        began = asyncio.get_running_loop().time()
        await until(lambda: all(len(driver.scans) >= 3 for driver in drivers))
    for index in range(3):
        phases = [driver.scans[index][0] - began - 0.4 * index for driver in drivers]
        assert -0.01 < min(phases) < 0.15
        assert 0.25 < max(phases) < 0.5
        busiest = max(sum(abs(one - other) < 0.02 for other in phases) for one in phases)
        assert busiest <= 8


async def test_scans_stay_on_their_grid() -> None:
    """Late scans do not move the later ones: the period is kept to the end, whatever a scan takes."""
    driver = Scripted(0.05)
    driver.slow = 0.02
    async with sampling(driver) as (sampler, _):
        await until(lambda: len(driver.scans) >= 30)
    first, last = driver.scans[0][0], driver.scans[29][0]
    slots = 29 + sampler.state.overruns
    assert abs((last - first) - 0.05 * slots) < 0.03


async def test_what_the_controller_reports_is_passed_on_once_after_a_scan() -> None:
    """Each report of the driver reaches the alarms, in order."""
    driver = Scripted(0.02)
    driver.reports = [ConditionReport([], complete=True), ConditionReport([])]
    seen: list[bool] = []
    sampler = Sampler("m", driver, lambda _: None, Clock(), on_conditions=lambda r: seen.append(r.complete))
    task = asyncio.create_task(sampler.run())
    while len(driver.scans) < 4:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen == [True, False]
