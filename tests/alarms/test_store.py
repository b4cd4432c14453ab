"""alarms.db: over restarts, SIGKILL, damage and a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.alarms.store import KEEP, AlarmStore, retired
from edge_agent.errors import StoreError
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Band

ALERT = Alert(
    machine="pump-1",
    id="health",
    kind=AlarmKind.HEALTH,
    priority=AlarmPriority.MEDIUM,
    state=AlarmState.UNACKNOWLEDGED,
    occurrence=3,
    raised_at=1_772_427_630_123_456_789,
    cleared_at=None,
    message="Feed pump 1 – not normal, 71 °C",
    action="Plan an inspection",
    value=1.4,
    contributions={"bearing_vibration": 0.62, "motor_temperature": 0.38},
    bands={"bearing_vibration": Band(3.4, 1.8, 2.3)},
    since=1_772_427_600_000_000_001,
    first_mover="bearing_vibration",
    maintenance=True,
)


def test_every_field_comes_back_exactly(tmp_path: Path) -> None:
    """What was recorded is loaded after a restart, to the nanosecond; history has every transition."""
    path = tmp_path / "state" / "alarms.db"
    store = AlarmStore(path)
    assert store.load() == []
    limit = replace(ALERT, id="t.high", kind=AlarmKind.LIMIT, value=None, contributions={}, bands={})
    store.record([ALERT, limit], 10)
    acknowledged = replace(ALERT, state=AlarmState.ACKNOWLEDGED)
    store.record([acknowledged], 20)
    store.close()
    store.close()
    again = AlarmStore(path)
    assert again.load() == [acknowledged, limit]
    assert again.history() == [acknowledged, limit, ALERT]
    assert again.history(machine="pump-1", since=15) == [acknowledged]
    assert again.history(machine="other") == []
    assert again.history(limit=1) == [acknowledged]
    again.close()


def test_save_hands_over_and_flush_waits(tmp_path: Path) -> None:
    """Transitions saved one by one are all there, in order, once flush has returned."""
    store = AlarmStore(tmp_path / "alarms.db")
    alerts = [replace(ALERT, occurrence=number, raised_at=number) for number in range(1, 200)]
    for alert in alerts:
        store.save([alert], alert.raised_at)
    store.flush()
    assert store.load() == [alerts[-1]]
    assert store.history() == alerts[::-1]
    store.save([ALERT, replace(ALERT, occurrence=999)], 5_000)
    store.close()
    again = AlarmStore(tmp_path / "alarms.db")
    assert again.load()[0].occurrence == 999
    again.close()


def test_what_cannot_be_written_now_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process holds the file for a while: said once, kept, and written with the next transition."""
    store = AlarmStore(tmp_path / "alarms.db")
    store._database.execute("PRAGMA busy_timeout=50")
    blocker = sqlite3.connect(tmp_path / "alarms.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for number in range(1, 4):
        store.save([replace(ALERT, occurrence=number)], number)
        store.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "database is locked; trying again" in caplog.text
    with pytest.raises(StoreError, match="locked"):
        store.record([ALERT], 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    store.save([replace(ALERT, occurrence=4)], 4)
    store.flush()
    assert [alert.occurrence for alert in store.history()] == [4, 3, 2, 1]
    store.close()


CHILD = """
import sys
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, {root!r})
from edge_agent.alarms.store import AlarmStore
from tests.alarms.test_store import ALERT
store = AlarmStore(Path(sys.argv[1]))
for number in range(1, 100_000):
    store.record([replace(ALERT, occurrence=number), replace(ALERT, id="b", occurrence=number)], number)
    print(number, flush=True)
"""


def test_what_was_recorded_survives_sigkill(tmp_path: Path) -> None:
    """Killed five times in the middle of writing: the last confirmed state is there, both rows or none."""
    root = str(Path(__file__).parents[2])
    for kill in range(5):
        path = tmp_path / f"{kill}.db"
        command = [sys.executable, "-c", CHILD.format(root=root), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(20 + 7 * kill):
                confirmed = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            confirmed = max([confirmed, *(int(line) for line in child.stdout if line.endswith("\n"))])
        store = AlarmStore(path)
        found = [alert.occurrence for alert in store.load()]
        assert found[0] == found[1]
        assert confirmed <= found[0] <= confirmed + 1
        assert store.notice is None
        store.close()


@pytest.mark.parametrize(
    "damage",
    [b"this is no database at all" * 100, b"SQLite format 3\x00" + bytes(range(256)) * 40],
    ids=["text", "header"],
)
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: bytes) -> None:
    """The agent starts with a new file; the old one is kept beside it."""
    path = tmp_path / "alarms.db"
    path.write_bytes(damage)
    store = AlarmStore(path)
    assert store.notice is not None
    assert "set aside as alarms.db.damaged-" in store.notice
    [aside] = tmp_path.glob("alarms.db.damaged-*")
    assert aside.read_bytes() == damage
    store.record([ALERT], 1)
    assert store.load() == [ALERT]
    store.close()


def test_pages_damaged_in_the_middle_are_noticed_at_start(tmp_path: Path) -> None:
    """A file whose pages no longer fit each other is set aside, not half believed."""
    path = tmp_path / "alarms.db"
    store = AlarmStore(path)
    for number in range(300):
        store.record([replace(ALERT, id=f"t{number}.high")], number)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    again = AlarmStore(path)
    assert again.notice is not None
    assert again.load() == []
    again.close()


def test_a_state_that_cannot_be_read_is_damage_too(tmp_path: Path) -> None:
    """A row with words this version does not know does not stop the agent."""
    path = tmp_path / "alarms.db"
    store = AlarmStore(path)
    store.record([ALERT], 1)
    store.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE conditions SET alert = replace(alert, 'unacknowledged', 'perhaps')")
    database.commit()
    database.close()
    again = AlarmStore(path)
    assert again.notice is not None
    assert "perhaps" in again.notice
    again.close()


def test_a_newer_file_and_an_unwritable_place_are_said(tmp_path: Path) -> None:
    """StoreError with what to do; the newer file is left alone."""
    path = tmp_path / "alarms.db"
    AlarmStore(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=7")
    database.close()
    with pytest.raises(StoreError, match="is of version 7, this edge-agent knows 1"):
        AlarmStore(path)
    assert path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        AlarmStore(tmp_path / "file" / "alarms.db")


def test_the_history_is_bounded(tmp_path: Path) -> None:
    """A chattering condition does not fill the card."""
    store = AlarmStore(tmp_path / "alarms.db")
    store.record([ALERT], 1)
    store._database.execute("UPDATE transitions SET seq = 1")
    store._database.execute("UPDATE sqlite_sequence SET seq = ?", (KEEP,))
    store.record([ALERT], 2)
    assert len(store.history()) == 1
    store.close()


def test_conditions_that_are_no_longer_configured_are_retired() -> None:
    """They go to normal, so that their retained message is cleared; what somebody claims is left alone."""
    gone = replace(ALERT, id="old.high")
    normal = replace(ALERT, id="older.high", state=AlarmState.NORMAL, cleared_at=5)
    [alert] = retired([ALERT, gone, normal], lambda _machine, identity: identity == "health", 77)
    assert (alert.id, alert.state, alert.cleared_at) == ("old.high", AlarmState.NORMAL, 77)
    assert alert.message.startswith("old.high is no longer configured; last: Feed pump 1")
