"""The agent's own vitals: counters, freshness, the watchdog, and what systemd hears on its socket."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.clock import SECOND, Clock
from edge_agent.vitals import BufferLevel, Vitals, Watchdog, sd_notify, watchdog_seconds
from edge_agent.vitals.metrics import exposition


class StillClock(Clock):
    """A clock that stands where a test puts it."""

    time = 1_000_000 * SECOND

    def now(self) -> int:
        return self.time


class Monotonic:
    """Seconds that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A socket as systemd opens it, and NOTIFY_SOCKET pointing there."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edge-agent-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name[1:] if name[0] == "@" else name)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield channel


def heard(channel: socket.socket) -> str:
    return channel.recv(4096).decode()


def test_systemd_hears_what_is_said(systemd: socket.socket) -> None:
    """READY, STATUS, RELOADING and STOPPING arrive as they were sent, on paths and abstract names."""
    for state in ("READY=1\nSTATUS=42/45 tags good – ok", "RELOADING=1\nMONOTONIC_USEC=123", "STOPPING=1"):
        assert sd_notify(state)
        assert heard(systemd) == state


def test_without_systemd_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No socket: quietly False. A socket that is gone or of an unknown kind: False and a word in the log."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")
    assert not caplog.records
    for address in (str(tmp_path / "gone"), "vsock:2:1234"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not sd_notify("READY=1")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "ours", 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_interval_is_taken_from_systemd(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None
) -> None:
    """Only where it is meant for this process."""
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
    assert watchdog_seconds() == seconds


def test_a_stage_that_stalls_starves_the_watchdog(caplog: pytest.LogCaptureFixture) -> None:
    """Fed while all move; not fed, and said once, while one does not; fed again when it moves again."""
    time, sent = Monotonic(), list[str]()
    watchdog = Watchdog(time)
    sampler = watchdog.stage("sampler pump-1", 3.0)
    writer = watchdog.stage("journal", lambda: 10.0)
    assert watchdog.feed(sent.append, lambda: "2/2 tags good")
    assert sent == ["STATUS=2/2 tags good\nWATCHDOG=1"]
    time.seconds += 3.5
    writer.tick()
    assert watchdog.late() == {"sampler pump-1": 0.5}
    assert not watchdog.feed(sent.append)
    assert not watchdog.feed(sent.append)
    assert sent[1:] == ["STATUS=stalled: sampler pump-1"] * 2
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    sampler.tick()
    assert watchdog.feed(sent.append)
    assert sent[-1] == "WATCHDOG=1"
    assert "sampler pump-1 moves again" in caplog.text


def test_a_machine_that_is_away_for_a_weekend_is_no_stall() -> None:
    """A sampler that goes on trying within its backoff is on schedule (DECISIONS 5)."""
    time = Monotonic()
    watchdog = Watchdog(time)
    backoff = 1.0
    sampler = watchdog.stage("sampler pump-1", lambda: backoff + 5)
    for _ in range(1000):
        backoff = min(60.0, backoff * 2)
        time.seconds += backoff
        assert not watchdog.late()
        sampler.tick()


def test_an_idle_stage_is_never_late_and_work_starts_its_time() -> None:
    """A journal without pending rows is not expected to commit; with them it is."""
    time = Monotonic()
    watchdog = Watchdog(time)
    journal = watchdog.stage("journal", 5.0)
    journal.idle()
    time.seconds += 1000
    assert not watchdog.late()
    journal.begin()
    time.seconds += 4
    journal.begin()
    time.seconds += 2
    assert watchdog.late() == {"journal": 1.0}
    watchdog.forget(journal)
    watchdog.forget(journal)
    assert not watchdog.late()


async def test_run_feeds_at_a_third_of_the_interval(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With WATCHDOG_USEC of 0.3 s it is fed every 0.1 s, with the status on one line."""
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    watchdog = Watchdog()
    feeding = asyncio.create_task(watchdog.run(sd_notify, lambda: "one\ntwo"))
    await asyncio.sleep(0.35)
    feeding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    systemd.setblocking(False)
    messages: list[str] = []
    while len(messages) < 10:
        try:
            messages.append(heard(systemd))
        except BlockingIOError:
            break
    assert messages[0] == "STATUS=one two\nWATCHDOG=1"
    assert 3 <= len(messages) <= 4


def busy() -> Vitals:
    """Vitals of an agent that has read, lost and delivered something."""
    vitals = Vitals(StillClock(), "1.2.3")
    now = StillClock.time
    pump = vitals.machine("pump-1")
    fast, slow = pump.group(40), pump.group(5)
    fast.scanned(0.012, 38)
    fast.scanned(0.3, 37)
    slow.scanned(5.0, 5)
    slow.overran()
    pump.tried = pump.reachable = True
    pump.readings(now - 2 * SECOND, 37, 1, 2)
    pump.readings(now - 1 * SECOND, 0, 0, 5)
    pump.committed = now - 3 * SECOND
    vitals.drop("full_oldest", 7)
    vitals.queue("journal", lambda: 4)
    vitals.buffer = lambda: BufferLevel(2_000, 1_000_000, 12, now - 3 * SECOND)
    vitals.sink("mqtt").took(3)
    vitals.sink("mqtt").refused(1)
    vitals.sink("copy").away("broker unreachable")
    return vitals


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_the_status_line() -> None:
    """What `systemctl status` shows."""
    vitals = busy()
    assert vitals.status() == "42/45 tags good, buffer 0.2 %, oldest 3 s, 7 readings dropped"
    assert Vitals(StillClock(), "1").status() == "0/0 tags good, buffer not open"


def test_metrics_are_valid_and_say_what_happened() -> None:
    """Parsed by Prometheus' own parser; counters, histogram, freshness, buffer, sinks."""
    found = samples(exposition(busy()).decode())
    expected = {
        "edge_agent_readings_total{machine=pump-1,quality=good}": 37,
        "edge_agent_readings_total{machine=pump-1,quality=bad}": 7,
        "edge_agent_dropped_total{reason=full_oldest}": 7,
        "edge_agent_scans_total{machine=pump-1}": 3,
        "edge_agent_scan_overruns_total{machine=pump-1}": 1,
        "edge_agent_poll_duration_seconds_bucket{le=0.02,machine=pump-1}": 1,
        "edge_agent_poll_duration_seconds_bucket{le=0.5,machine=pump-1}": 2,
        "edge_agent_poll_duration_seconds_bucket{le=+Inf,machine=pump-1}": 3,
        "edge_agent_poll_duration_seconds_count{machine=pump-1}": 3,
        "edge_agent_data_age_seconds{machine=pump-1,stage=read}": 2,
        "edge_agent_data_age_seconds{machine=pump-1,stage=committed}": 3,
        "edge_agent_buffer_bytes{}": 2000,
        "edge_agent_buffer_oldest_seconds{}": 3,
        "edge_agent_sink_up{sink=mqtt}": 1,
        "edge_agent_sink_up{sink=copy}": 0,
        "edge_agent_sink_records_total{sink=mqtt}": 3,
        "edge_agent_queue_depth{queue=journal}": 4,
        "edge_agent_stages_late{}": 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "edge_agent_data_age_seconds{machine=pump-1,stage=acknowledged}" not in found, "never is no age"
    assert any(re.match(r"edge_agent_build_info\{python=3\..*version=1\.2\.3\}", name) for name in found)


def test_an_agent_that_has_only_started_has_metrics_too() -> None:
    """No machine, no buffer, no sink: valid text all the same; a machine without groups as well."""
    vitals = Vitals(StillClock(), "1")
    assert samples(exposition(vitals).decode())["edge_agent_stages_late{}"] == 0
    vitals.machine("m")
    found = samples(exposition(vitals).decode())
    assert found["edge_agent_poll_duration_seconds_count{machine=m}"] == 0


def test_readiness_waits_for_the_buffer_and_one_try_of_every_machine() -> None:
    """A machine that is away is no reason not to be ready; one that was never tried is."""
    vitals = Vitals(StillClock(), "1")
    vitals.machine("pump-1").tried = True
    assert not vitals.readiness()["ready"], "no buffer yet"
    vitals.buffer = BufferLevel
    assert vitals.readiness()["ready"]
    vitals.machine("press-2")
    assert not vitals.readiness()["ready"]
    vitals.machine("press-2").tried = True
    state = vitals.readiness()
    assert state["ready"]
    assert state["machines"]["press-2"]["reachable"] is False
    assert state["machines"]["press-2"]["read"] is None


def test_readiness_says_how_far_the_newest_data_has_come() -> None:
    """Read, committed and acknowledged per machine, in ISO 8601."""
    state = busy().readiness()
    assert state["machines"]["pump-1"]["read"] == "1970-01-12T13:46:38.000Z"
    assert state["machines"]["pump-1"]["acknowledged"] is None
    assert state["sinks"]["copy"] == {"up": False, "reason": "broker unreachable", "delivered": 0}
    assert state["buffer"]["oldest_seconds"] == 3


def test_an_agent_without_web_does_not_load_prometheus() -> None:
    """Memory is a feature: neither prometheus-client nor a web server comes with the vitals."""
    code = (
        "import sys, edge_agent.vitals, edge_agent.web;"
        "print([m for m in ('prometheus_client', 'starlette', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
