"""The embedded store's minutes, the end of old readings, and files that cannot be used."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import SECOND, Clock
from edge_agent.historian import History
from edge_agent.historian import minutes as minutes_module
from edge_agent.historian.embedded import EmbeddedStore
from edge_agent.historian.history import MINUTE, SCHEMA, Minute
from edge_agent.historian.ledger import FieldLedger
from edge_agent.settings.models import RetentionSettings
from edge_agent.types import Priority, Record

DAY = 86_400 * SECOND
HEAD = b"readings,site=s,machine=pump-1"
Aside = list[tuple[Record, bytes, str]]


class Hands(Clock):
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 1_795_000_020 * SECOND  # the beginning of a minute
        self.monotonic = 0

    def now(self) -> int:
        return self.time

    def elapsed(self) -> int:
        return self.monotonic

    def live(self, ns: int) -> None:
        """Let time pass."""
        self.time += ns
        self.monotonic += ns


def record(*lines: bytes, seq: int = 1) -> Record:
    return Record(seq, "pump-1", Priority.TELEMETRY, 0, b"\n".join(lines), "pi")


@contextlib.asynccontextmanager
async def store(folder: Path, clock: Clock, **retention: Any) -> AsyncIterator[tuple[EmbeddedStore, Aside]]:
    aside: Aside = []
    one = EmbeddedStore(
        folder / "history.db",
        FieldLedger(folder / "fields.json"),
        lambda *what: aside.append(what),
        RetentionSettings.model_validate(retention),
        clock,
    )
    try:
        yield one, aside
    finally:
        await one.close()


def minutes(folder: Path, field: str = "a", machine: str = "pump-1", **more: Any) -> list[Minute]:
    with History(folder / "history.db") as history:
        return history.minutes(machine, field, **more)


def raw(folder: Path, field: str = "a") -> list[int]:
    with History(folder / "history.db") as history:
        return [ns for ns, _ in history.range("pump-1", field)]


async def test_minutes_are_what_the_readings_say(tmp_path: Path) -> None:
    """Mean, lowest, highest and count of each field and minute, of lines in several shapes and any order."""
    clock = Hands()
    random.seed(7)
    readings = [
        (clock.time + n * 700_000_000 + 1, random.gauss(0, 1e3), random.randint(-9, 9)) for n in range(500)
    ]
    lines = [
        HEAD + (b' a=%r,n=%di,mode="x",b=true %d' if n % 3 else b" a=%r,n=%di %d") % (a, i, ns)
        for n, (ns, a, i) in enumerate(readings)
    ]
    random.shuffle(lines)
    async with store(tmp_path, clock) as (one, _):
        for start in range(0, 500, 100):
            await one.deliver([record(*lines[start : start + 100])], backlog=False)
            await one.tidy()
    for column, field in ((1, "a"), (2, "n")):
        found = minutes(tmp_path, field)
        assert [minute.ns for minute in found] == sorted({ns // MINUTE * MINUTE for ns, *_ in readings})
        for minute in found:
            values = [row[column] for row in readings if minute.ns <= row[0] < minute.ns + MINUTE]
            assert (minute.low, minute.high, minute.count) == (min(values), max(values), len(values))
            assert minute.mean == pytest.approx(statistics.fmean(values))
    assert minutes(tmp_path, "mode") == minutes(tmp_path, "b") == []
    assert len(minutes(tmp_path, start=clock.time + 1, stop=clock.time + 2 * MINUTE)) == 1


async def test_late_readings_and_repeats_change_their_minute_only(tmp_path: Path) -> None:
    """A backlog makes its minutes anew, the same reading twice counts once, and a restart forgets none."""
    clock = Hands()
    start = clock.time
    async with store(tmp_path, clock) as (one, _):
        await one.deliver([record(HEAD + b" a=1 %d" % (start + MINUTE))], backlog=False)
        await one.tidy()
        await one.deliver([record(HEAD + b" a=3 %d" % (start + MINUTE + 5))], backlog=False)
    assert [one.count for one in minutes(tmp_path)] == [1], "not made before the restart"
    async with store(tmp_path, clock) as (one, _):
        await one.tidy()
        for _ in range(2):
            await one.deliver([record(HEAD + b" a=8 %d" % start)], backlog=True)
            await one.tidy()
    assert minutes(tmp_path) == [Minute(start, 8, 8, 8, 1), Minute(start + MINUTE, 2, 1, 3, 2)]


async def test_numbers_at_the_edge(tmp_path: Path) -> None:
    """The largest doubles, 64-bit integers and times before 1970 or the last there is have minutes."""
    lines = [
        b"readings,machine=pump-1 a=1.7e308,n=9223372036854775807i 5",
        b"readings,machine=pump-1 a=1.7e308,n=-9223372036854775807i 6",
        b"readings,machine=pump-1 a=-2 -1",
        b"readings,machine=pump-1 a=4 9223372036854775807",
        b"readings,machine=pump-1 a=5 -9200000000000000000",
    ]
    async with store(tmp_path, Hands()) as (one, aside):
        await one.deliver([record(*lines)], backlog=False)
        await one.tidy()
    assert aside == []
    assert [(one.mean, one.count) for one in minutes(tmp_path)] == [(5, 1), (-2, 1), (1.7e308, 2), (4, 1)]


async def test_old_readings_go_and_their_minutes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `raw` only minutes are left, after `minute` nothing; alarms stay as long as minutes."""
    monkeypatch.setattr(minutes_module, "DROPPED_AT_A_TIME", 50)
    clock = Hands()
    first = clock.time
    async with store(tmp_path, clock, raw="2d", minute="30d") as (one, aside):
        for day in range(40):
            lines = [HEAD + b" a=%d %d" % (n, clock.time + n * SECOND) for n in range(120)]
            alarm = b'alarms,site=s,machine=pump-1 state="raised" %d' % clock.time
            await one.deliver([record(*lines, alarm)], backlog=False)
            await one.tidy()
            for _ in range(24):
                clock.live(DAY // 24)
                await one.tidy()
            if day == 10:
                assert min(raw(tmp_path)) > clock.time - 2 * DAY - MINUTE - minutes_module.STEP
                assert len(minutes(tmp_path)) == 22
        assert aside == []
    oldest = clock.time - 30 * DAY - minutes_module.STEP - MINUTE
    found = minutes(tmp_path)
    assert first < oldest < found[0].ns < clock.time - 29 * DAY
    assert all((one.mean, one.count) in ((29.5, 60), (89.5, 60)) for one in found)
    with History(tmp_path / "history.db") as history:
        alarms = [point.timestamp for point in history.points("alarms")]
    assert min(alarms) > oldest
    assert len(alarms) in (29, 30)


async def test_the_file_stops_growing(tmp_path: Path) -> None:
    """The room of what is dropped is used again."""
    clock = Hands()
    sizes = []
    for _ in range(14):
        async with store(tmp_path, clock, raw="1d", minute="5d") as (one, _):
            lines = [HEAD + b" a=%d,b=2,c=3 %d" % (n, clock.time + n * SECOND) for n in range(3000)]
            await one.deliver([record(*lines)], backlog=False)
            for _ in range(12):
                clock.live(DAY // 12)
                await one.tidy()
        sizes.append((tmp_path / "history.db").stat().st_size)
    assert sizes[0] > 100_000
    assert sizes[-1] <= sizes[8] * 1.05


async def test_a_reading_that_is_too_old_is_set_aside(tmp_path: Path) -> None:
    """It would change a minute whose other readings are gone: it is kept apart, with the reason."""
    clock = Hands()
    start = clock.time
    async with store(tmp_path, clock, raw="1d") as (one, aside):
        await one.deliver([record(HEAD + b" a=1 %d" % start)], backlog=False)
        for _ in range(50):
            clock.live(DAY // 24)
            await one.tidy()
        assert raw(tmp_path) == []
        late = HEAD + b" a=9 %d" % (start + 1)
        await one.deliver([record(late, HEAD + b" a=2 %d" % clock.time)], backlog=True)
        await one.tidy()
    ((_, text, reason),) = aside
    assert text == late
    assert reason.startswith("too_old: ")
    assert [(one.mean, one.count) for one in minutes(tmp_path)] == [(1, 1), (2, 1)]


async def test_nothing_goes_before_its_minute_is_made(tmp_path: Path) -> None:
    """Readings wait for their minute, however old they are."""
    clock = Hands()
    start = clock.time
    async with store(tmp_path, clock, raw="1d") as (one, _):
        await one.deliver([record(HEAD + b" a=1 %d" % start)], backlog=False)
        await one.tidy()
        clock.live(3 * DAY)
        await one.deliver([record(HEAD + b" a=3 %d" % (start + 1))], backlog=True)
        while await one._call(one._tidy, one._minutes.drop):
            pass
        assert raw(tmp_path) == [start, start + 1]
        clock.live(2 * minutes_module.STEP)
        await one.tidy()
    assert raw(tmp_path) == []
    assert minutes(tmp_path) == [Minute(start, 2, 1, 3, 2)]


async def test_a_clock_that_is_set_drops_nothing(tmp_path: Path) -> None:
    """Ten years ahead, and back: all is there, and nothing is refused; after a day it is believed again."""
    clock = Hands()
    await _leap(tmp_path, clock, [0, 3650 * DAY, -3650 * DAY])


async def test_a_start_with_a_clock_that_is_far_off_drops_nothing(tmp_path: Path) -> None:
    """The same where each time the historian starts with the wrong time, and so sees no leap."""
    clock = Hands()
    await _leap(tmp_path, clock, [0])
    for leap in (3650 * DAY, -3650 * DAY):
        clock.time += leap
        await _leap(tmp_path, clock, [0])


async def _leap(folder: Path, clock: Hands, leaps: list[int]) -> None:
    """A reading, a day of peace after which the clock is believed, then leaps; nothing is dropped."""
    async with store(folder, clock, raw="3d") as (one, aside):
        before = len(raw(folder)) if (folder / "history.db").exists() else 0
        for leap in leaps:
            clock.time += leap
            await one.tidy()
            clock.live(MINUTE)
            await one.deliver([record(HEAD + b" a=1 %d" % clock.time)], backlog=False)
            await one.tidy()
            clock.live(DAY - 2 * MINUTE)
            await one.tidy()
        assert len(raw(folder)) == before + len(leaps)
        assert aside == []


async def test_a_clock_that_was_set_is_believed_after_a_day(tmp_path: Path) -> None:
    """What was stored before goes as it should then."""
    clock = Hands()
    async with store(tmp_path, clock, raw="2d") as (one, _):
        await one.deliver([record(HEAD + b" a=1 %d" % clock.time)], backlog=False)
        clock.time += 100 * DAY
        for hours in range(26):
            await one.tidy()
            assert len(raw(tmp_path)) == (hours < 24)
            clock.live(DAY // 24)


async def test_forever(tmp_path: Path) -> None:
    """`raw: forever` drops no reading, and makes minutes all the same."""
    clock = Hands()
    start = clock.time
    async with store(tmp_path, clock, raw="forever", minute="forever") as (one, _):
        await one.deliver([record(HEAD + b" a=1 %d" % start)], backlog=False)
        for _ in range(30):
            clock.live(100 * DAY)
            await one.tidy()
    assert raw(tmp_path) == [start]
    assert minutes(tmp_path) == [Minute(start, 1, 1, 1, 1)]


async def test_a_history_without_minutes_gets_them(tmp_path: Path) -> None:
    """A file of the first version is read as it is, and its minutes are made."""
    with contextlib.closing(sqlite3.connect(tmp_path / "history.db")) as sql:
        sql.executescript(f"{SCHEMA}PRAGMA application_id={0x45414848};PRAGMA user_version=1;")
        fields = '[["a"], "d"]'
        sql.execute("INSERT INTO shapes VALUES (1,'readings','pump-1','[]',?)", (fields,))
        for ns in (-1, 5, 6, 7 * MINUTE):
            sql.execute("INSERT INTO points VALUES (1,?,?,NULL)", (ns, b"\0" * 8))
        sql.commit()
    async with store(tmp_path, Hands()) as (one, _):
        await one.tidy()
        await one.deliver([record(b"readings,machine=pump-1 a=4 8")], backlog=False)
        await one.tidy()
    assert [(one.ns, one.count) for one in minutes(tmp_path)] == [(-MINUTE, 1), (0, 3), (7 * MINUTE, 1)]


# --- files that cannot be used


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 100):
        content[place] ^= 0xFF
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.execute("CREATE TABLE somebody_elses(x)")


def _newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA user_version=99")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda path: path.write_bytes(b"garbage " * 4000), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "damaged"),
        (_flip, "damaged"),
        (_foreign, "foreign"),
        (_newer, "newer"),
    ],
)
async def test_an_unusable_history_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Any, kind: str
) -> None:
    """It is renamed and said, a new one is begun, and the records of the moment are in it."""
    path = tmp_path / "history.db"
    async with store(tmp_path, Hands()) as (one, _):
        await one.deliver([record(*(HEAD + b" a=%d %d" % (n, n) for n in range(2000)))], backlog=False)
    spoil(path)
    was = path.read_bytes()
    async with store(tmp_path, Hands()) as (one, aside):
        await one.deliver([record(HEAD + b" a=5 7", HEAD + b" nonsense 8")], backlog=False)
        await one.tidy()
    (kept,) = tmp_path.glob(f"history.db.{kind}-*[0-9]")
    assert kept.read_bytes() == was
    assert str(path) in caplog.text
    assert kept.name in caplog.text
    assert raw(tmp_path) == [7]
    assert [one.count for one in minutes(tmp_path)] == [1]
    assert len(aside) == 1


async def test_a_history_that_is_damaged_while_it_is_used(tmp_path: Path) -> None:
    """Damage that only a later write finds is found then, and costs no record."""
    path = tmp_path / "history.db"
    lines = [HEAD + b" a=%d %d" % (n, n * 2) for n in range(20_000)]
    async with store(tmp_path, Hands()) as (one, _):
        await one.deliver([record(*lines)], backlog=False)
        await one.tidy()
    content = bytearray(path.read_bytes())
    content[4096 * 8 :] = b"\xa5" * (len(content) - 4096 * 8)
    path.write_bytes(content)
    async with store(tmp_path, Hands()) as (one, aside):
        for n in range(0, 20_000, 2000):
            lines = [b"nonsense %d" % n, HEAD + b" a=%d %d" % (n, n * 2 + 1)]
            await one.deliver([record(*lines)], backlog=False)
        await one.tidy()
        assert len(aside) == 10, "a bad line is set aside once, though its record was stored twice"
    assert len(list(tmp_path.glob("history.db.damaged-*[0-9]"))) == 1
    assert raw(tmp_path)[-1] == 18_000 * 2 + 1


async def test_a_folder_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    """A file that cannot be opened is no reason to set one aside: it is tried again."""
    (tmp_path / "history.db").mkdir()
    async with store(tmp_path, Hands()) as (one, _):
        with pytest.raises(Exception, match="cannot be written"):
            await one.deliver([record(HEAD + b" a=1 1")], backlog=False)
    assert [path.name for path in tmp_path.glob("history.db*")] == ["history.db"]
