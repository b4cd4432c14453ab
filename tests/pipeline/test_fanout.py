"""The fan-out: what one batch becomes in the journal, the alarms, the health rows and the live states."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent.alarms.limits import LimitAlarms
from edge_agent.buffer import Journal
from edge_agent.clock import SECOND, Clock
from edge_agent.contracts.settings import TagSettings
from edge_agent.lineprotocol import parse
from edge_agent.pipeline.alerts import AlertPublisher
from edge_agent.pipeline.fanout import Fanout
from edge_agent.pipeline.outlets import Place
from edge_agent.pipeline.tagtopics import TagTopics
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Alert, Reason, SampleBatch, Tag, bad

PLACE = Place("pump-1", {"site": "hall", "line": "l1"})
TAGS = (Tag("flow", unit="m3/h", deadband=0.5, max_interval=60), Tag("running"))


class KeptBoard:
    """A board that keeps what it was given."""

    def __init__(self) -> None:
        self.states: dict[str, Mapping[str, Any] | bytes] = {}

    def retain(self, topic: str, payload: Mapping[str, Any] | bytes, *, expiry: float | None = None) -> None:
        self.states[topic] = payload


class Line:
    """A fan-out over a real journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.board = KeptBoard()
        self.alerts: list[Alert] = []
        self.committed: list[SampleBatch] = []
        settings = {"flow": TagSettings.model_validate({"limits": {"high": {"value": 70, "action": "Look"}}})}
        self.fanout = Fanout(
            PLACE,
            TAGS,
            "readings",
            journal,
            limits=LimitAlarms("pump-1", settings),
            alerts=AlertPublisher(PLACE, journal, self.board, lambda _alerts, _at: None, self.alerts.append),
            topics=TagTopics(PLACE, TAGS, self.board),
            on_committed=self.committed.append,
        )

    def scan(self, seconds: float, flow: float | None, running: int = 1) -> None:
        statuses = {0: bad(Reason.SENSOR_FAILURE)} if flow is None else {}
        self.fanout(
            SampleBatch("pump-1", ("flow", "running"), int(seconds * SECOND), [flow, running], statuses)
        )

    async def lines(self) -> list[bytes]:
        await self.journal.flush()
        records = await asyncio.wait_for(self.journal.reader().fetch(), 5)
        return [line for record in records for line in record.lines.split(b"\n")]


@pytest.fixture
async def line(tmp_path: Path) -> Any:
    async with Journal(tmp_path / "journal.db", Clock(), BufferSettings(commit_interval="50ms")) as journal:  # type: ignore[arg-type]
        yield Line(journal)


async def test_a_scan_is_one_wide_line_with_its_own_time(line: Line) -> None:
    """Levels and machine are tags, the machine's tags are fields, the driver's timestamp is kept."""
    line.scan(100, 60.25)
    points = [parse(text) for text in await line.lines()]
    reading = next(point for point in points if point.measurement == "readings")
    assert reading.tags == {"site": "hall", "line": "l1", "machine": "pump-1"}
    assert reading.fields == {"flow": 60.25, "running": 1.0}
    assert reading.timestamp == 100 * SECOND


async def test_changes_within_the_deadband_are_not_passed_on(line: Line) -> None:
    """A small change is left out, a large one and the end of max_interval are not."""
    for seconds, flow in ((0, 60.0), (1, 60.2), (2, 60.8), (30, 60.9), (63, 60.9)):
        line.scan(seconds + 1000, flow)
    points = [parse(text) for text in await line.lines()]
    flows = {p.timestamp // SECOND - 1000: p.fields["flow"] for p in points if "flow" in p.fields}
    assert flows == {0: 60.0, 2: 60.8, 63: 60.9}
    assert sum(point.measurement == "readings" for point in points) == 5


async def test_a_bad_value_is_a_quality_line_and_no_number(line: Line) -> None:
    """A bad value is left out of the readings; its status, reason and code are written when they change."""
    line.scan(100, 60.0)
    line.scan(101, None)
    line.scan(102, None)
    line.scan(103, 61.0)
    points = [parse(text) for text in await line.lines()]
    flow = [p for p in points if p.measurement == "quality" and p.tags["tag"] == "flow"]
    assert [(p.timestamp // SECOND, p.fields["status"], p.fields["code"]) for p in flow] == [
        (100, "good", 192.0),
        (101, "bad", 0.0),
        (103, "good", 192.0),
    ]
    assert flow[1].fields["reason"] == "sensor_failure"
    assert not any("flow" in p.fields for p in points if p.timestamp // SECOND in (101, 102))


async def test_a_limit_raises_an_alarm_in_journal_and_state(line: Line) -> None:
    """An exceeded limit is an alarm line, a retained state and an alert with its action."""
    line.scan(100, 60.0)
    line.scan(101, 75.0)
    assert [(alert.id, alert.action) for alert in line.alerts] == [("flow.high", "Look")]
    state = line.board.states["hall/l1/pump-1/alarms/flow.high"]
    assert isinstance(state, Mapping)
    assert state["state"] == "unacknowledged"
    points = [parse(text) for text in await line.lines()]
    alarm = next(point for point in points if point.measurement == "alarms")
    assert alarm.tags["alarm"] == "flow.high"
    assert alarm.fields["state"] == "unacknowledged"


async def test_committed_is_said_after_the_commit(line: Line) -> None:
    """A batch counts as committed once the journal has it on the medium, not before."""
    line.scan(100, 60.0)
    assert line.committed == []
    await line.journal.flush()
    assert [batch.timestamp for batch in line.committed] == [100 * SECOND]


async def test_tag_topics_follow_value_and_quality(line: Line) -> None:
    """The retained state of a tag is its newest value with quality; a bad one has no value."""
    line.scan(100, 60.0)
    topic = "hall/l1/pump-1/tags/flow"
    state = line.board.states[topic]
    assert isinstance(state, Mapping)
    assert (state["v"], state["q"], state["u"], state["ns"]) == (60.0, "good", "m3/h", str(100 * SECOND))
    line.scan(101, None)
    state = line.board.states[topic]
    assert isinstance(state, Mapping)
    assert (state["v"], state["q"], state["reason"]) == (None, "bad", "sensor_failure")
