"""Readings from before the clock is set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.clock import SECOND, Clock
from edge_agent.pipeline import clockgate
from edge_agent.pipeline.clockgate import FLAGGED, ClockGate, ClockTrust, synchronised
from edge_agent.types import Reason, SampleBatch, Status, bad

START = 1_795_000_000 * SECOND
BEHIND = 30 * 86_400 * SECOND


class Pi(Clock):
    """A Pi that starts a month behind."""

    def __init__(self) -> None:
        self.offset = START - BEHIND
        self.passed = 0

    def now(self) -> int:
        return self.offset + self.passed

    def elapsed(self) -> int:
        return self.passed


class Trust(ClockTrust):
    """Set when the test says so."""

    def __init__(self) -> None:
        self.set = False

    def is_set(self) -> bool:
        return self.set


def gated(*, hold: bool) -> tuple[ClockGate, Pi, Trust, list[SampleBatch], list[int]]:
    clock, trust = Pi(), Trust()
    out: list[SampleBatch] = []
    drops: list[int] = []
    return ClockGate(trust, clock, out.append, hold=hold, on_drop=drops.append), clock, trust, out, drops


def scan(clock: Pi, value: float, statuses: dict[int, Status] | None = None) -> SampleBatch:
    return SampleBatch("pump-1", ("a", "b"), clock.now(), [value, None], statuses or {1: bad(Reason.TIMEOUT)})


def test_held_readings_get_the_time_at_which_they_came() -> None:
    """Nothing leaves before the clock is set; then each has its true time, in order, and none is lost."""
    gate, clock, trust, out, drops = gated(hold=True)
    for second in range(5):
        clock.passed = second * SECOND
        gate(scan(clock, second))
    assert out == []
    clock.offset += BEHIND
    trust.set = True
    clock.passed = 5 * SECOND
    gate(scan(clock, 5))
    assert [batch.timestamp for batch in out] == [START + second * SECOND for second in range(6)]
    assert [batch.values[0] for batch in out] == [0, 1, 2, 3, 4, 5]
    assert drops == []


def test_flagged_readings_are_sent_at_once_as_uncertain() -> None:
    """The value is kept; what is bad stays bad; nothing is flagged any more once the clock is set."""
    gate, clock, trust, out, _ = gated(hold=False)
    gate(scan(clock, 1.0))
    assert (out[0].status(0), out[0].status(1)) == (FLAGGED, bad(Reason.TIMEOUT))
    trust.set = True
    gate(scan(clock, 2.0))
    assert out[1].status(0).reason is Reason.NONE


def test_what_is_held_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time server for days the oldest go, and are counted."""
    monkeypatch.setattr(clockgate, "MOST_HELD", 10)
    gate, clock, trust, out, drops = gated(hold=True)
    for number in range(8):
        gate(scan(clock, number))
    trust.set = True
    gate(scan(clock, 8))
    assert [batch.values[0] for batch in out] == [3, 4, 5, 6, 7, 8]
    assert sum(drops) == 6


def board(root: Path, *, battery: bool) -> Path:
    (root / "sys/firmware/devicetree/base").mkdir(parents=True)
    if battery:
        (root / "sys/class/rtc/rtc0").mkdir(parents=True)
    return root


def test_whether_the_clock_can_be_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without battery clock waits for a time server; a clock behind its own past is wrong."""
    monkeypatch.setattr(clockgate, "synchronised", lambda _root: False)
    nothing = tmp_path / "nothing"
    assert not ClockTrust(Clock(), nothing, root=board(tmp_path / "pi", battery=False)).is_set()
    assert ClockTrust(Clock(), nothing, root=board(tmp_path / "pi5", battery=True)).is_set()
    assert ClockTrust(Clock(), nothing, root=tmp_path / "pc").is_set()
    past = tmp_path / "journal.db"
    past.touch()
    ahead = Clock().now() + 3600 * SECOND
    os.utime(past, ns=(ahead, ahead))
    assert not ClockTrust(Clock(), past, root=tmp_path / "pc").is_set()
    monkeypatch.setattr(clockgate, "synchronised", lambda _root: True)
    assert ClockTrust(Clock(), past, root=tmp_path / "pi").is_set()


def test_the_system_can_be_asked(tmp_path: Path) -> None:
    """It answers yes or no on this machine; systemd's word is believed before the kernel's."""
    assert synchronised() in (True, False)
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert synchronised(tmp_path)
