"""The journal: commits, cursors, acknowledgements."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.buffer import Journal
from edge_agent.buffer.rows import MAX_ROW_BYTES
from edge_agent.errors import StoreError, TemporaryError
from edge_agent.types import Priority, Record
from tests.buffer.conftest import HeldClock

Make = Callable[..., Journal]


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


async def seconds(future: asyncio.Future[None]) -> float:
    start = time.monotonic()
    await asyncio.wait_for(future, 5)
    return time.monotonic() - start


async def fetch(journal: Journal, reader: str = "sink", **limits: int) -> list[Record]:
    return await asyncio.wait_for(journal.reader(reader).fetch(**limits), 5)


async def nothing(journal: Journal, reader: str = "sink") -> bool:
    try:
        await asyncio.wait_for(journal.reader(reader).fetch(), 0.2)
    except TimeoutError:
        return True
    return False


async def test_a_row_is_one_machine_one_class_one_source_one_commit(make: Make, clock: HeldClock) -> None:
    """Appends that share a commit are rows by machine, class and source; alarms come first."""
    async with make() as journal:
        await journal.append("pump-1", b"first 1")
        journal.append("pump-1", b"a 1")
        journal.append("press-2", b"b 1")
        journal.append("pump-1", b"c 1", source="pi-02")
        journal.append("pump-1", b"a 2")
        await journal.append("pump-1", b"alarm 1", Priority.ALARM)
        alarm, first, *rest = await fetch(journal)
    assert (alarm.lines, alarm.priority) == (b"alarm 1", Priority.ALARM)
    assert first.lines == b"first 1"
    assert {(record.machine, record.source): record.lines for record in rest} == {
        ("pump-1", ""): b"a 1\na 2",
        ("press-2", ""): b"b 1",
        ("pump-1", "pi-02"): b"c 1",
    }
    assert all(record.created == clock.now() for record in rest)
    seqs = sorted([alarm.seq, first.seq, *(record.seq for record in rest)])
    assert [after - before for before, after in itertools.pairwise(seqs)] == [1, 1, 1, 1]


async def test_group_commit_spaces_all_but_the_first_and_the_urgent(make: Make) -> None:
    """The first append after idle time commits at once, the next wait for the interval, alarms don't."""
    async with make(commit_interval="1s") as journal:
        assert await seconds(journal.append("m", b"a 1")) < 0.3
        waiting = journal.append("m", b"a 2")
        assert journal.append("m", b"a 3") is waiting
        assert await seconds(journal.append("m", b"alarm", Priority.ALARM)) < 0.3
        assert waiting.done()
        assert await seconds(journal.append("m", b"quality", urgent=True)) < 0.3
        spaced = await seconds(journal.append("m", b"a 4"))
        assert 0.6 < spaced < 1.3
        await asyncio.sleep(1.1)
        assert await seconds(journal.append("m", b"a 5")) < 0.3
        assert journal.stats().commits == 5


async def test_a_patient_journal_waits_for_flush(make: Make) -> None:
    """Without `eager` the first append waits too, until flush or the interval."""
    async with make(eager=False, commit_interval="400ms") as journal:
        future = journal.append("m", b"a 1")
        await asyncio.sleep(0.1)
        assert not future.done()
        await journal.flush()
        assert future.done()
        assert 0.2 < await seconds(journal.append("m", b"a 2")) < 1


async def test_the_loop_never_waits_for_the_disk(make: Make) -> None:
    """While thousands of lines are committed the loop goes round without a long step."""
    async with make() as journal:
        longest, last = 0.0, time.monotonic()
        for _ in range(100):
            for machine in range(20):
                journal.append(f"m{machine}", b"readings a=1 1" * 20, urgent=True)
            await asyncio.sleep(0.002)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        assert longest < 0.2


async def test_large_rows_are_cut_between_lines(make: Make) -> None:
    """A row holds at most 128 KiB of lines; lines stay whole, one that is longer is a row of its own."""
    async with make() as journal:
        lines = [b"%06d " % n + b"x" * 4000 for n in range(100)]
        journal.append("m", b"\n".join(lines[:60]))
        journal.append("m", b"\n".join(lines[60:]))
        await journal.append("m", b"y" * 200_000)
        records = await fetch(journal)
    assert b"\n".join(record.lines for record in records).split(b"\n") == [*lines, b"y" * 200_000]
    assert all(len(record.lines) <= MAX_ROW_BYTES for record in records[:-1])


async def test_acknowledged_rows_are_gone_after_a_restart_and_the_others_are_not(make: Make) -> None:
    """What was acknowledged is deleted, what was not is given again, numbers go on."""
    async with make() as journal:
        for number in range(5):
            await journal.append("m", b"a %d" % number, urgent=True)
        records = await fetch(journal)
        await journal.reader().ack(record.seq for record in records[:3])
        assert journal.stats().rows == 2
    async with make() as journal:
        again = await fetch(journal)
        assert [record.lines for record in again] == [b"a 3", b"a 4"]
        await journal.reader().ack(record.seq for record in again)
    async with make() as journal:
        await journal.append("m", b"a 5")
        (record,) = await fetch(journal)
        assert record.seq == records[-1].seq + 1


async def test_out_of_order_acknowledgements(make: Make) -> None:
    """A hole in the acknowledgements is given again, and only the hole."""
    async with make() as journal:
        for number in range(6):
            await journal.append("m", b"a %d" % number, urgent=True)
        records = await fetch(journal)
        journal.reader().ack(record.seq for record in records if record.lines not in (b"a 1", b"a 4"))
        journal.reader().rewind()
        assert [record.lines for record in await fetch(journal)] == [b"a 1", b"a 4"]
        assert await nothing(journal)
    async with make() as journal:
        assert [record.lines for record in await fetch(journal)] == [b"a 1", b"a 4"]


async def test_a_reader_is_given_each_record_once_until_it_rewinds(make: Make) -> None:
    """fetch goes on where it was, waits where there is nothing, and wakes for new rows."""
    async with make() as journal:
        for number in range(5):
            await journal.append("m", b"a %d" % number, urgent=True)
        assert len(await fetch(journal, max_records=2)) == 2
        assert len(await fetch(journal, max_bytes=1)) == 1
        assert len(await fetch(journal)) == 2
        waiting = asyncio.create_task(journal.reader().fetch())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await journal.append("m", b"a 5")
        assert [record.lines for record in await waiting] == [b"a 5"]
        journal.reader().rewind()
        assert len(await fetch(journal)) == 6


async def test_alarms_pass_a_backlog(make: Make) -> None:
    """An alarm is the next record however much telemetry waits."""
    async with make() as journal:
        for number in range(50):
            journal.append(f"m{number}", b"a 1")
        await journal.flush()
        await fetch(journal, max_records=10)
        await journal.append("m", b"alarm", Priority.ALARM)
        assert (await fetch(journal, max_records=1))[0].lines == b"alarm"
        assert len(await fetch(journal)) == 40


async def test_two_readers_each_get_everything(make: Make) -> None:
    """A row stays until both have acknowledged it, over restarts too."""
    async with make(("mqtt", "cloud")) as journal:
        await journal.append("m", b"a 1", urgent=True)
        await journal.append("m", b"a 2", urgent=True)
        for_mqtt = await fetch(journal, "mqtt")
        await journal.reader("mqtt").ack(record.seq for record in for_mqtt)
        for_cloud = await fetch(journal, "cloud")
        await journal.reader("cloud").ack([for_cloud[0].seq])
        assert journal.stats().rows == 1
    async with make(("mqtt", "cloud")) as journal:
        assert [record.lines for record in await fetch(journal, "cloud")] == [b"a 2"]
        assert await nothing(journal, "mqtt")
    async with make(("mqtt",)) as journal:
        assert journal.stats().rows == 0, "the reader that held it is gone"


async def test_an_unknown_reader_is_an_error(make: Make) -> None:
    """A cursor must be named when the journal is made, or it would lose its place."""
    with pytest.raises(KeyError):
        make().reader("nobody")


async def test_a_second_process_is_refused_with_the_pid(make: Make, tmp_path: Path) -> None:
    """Two agents on one folder: the second says who has it."""
    async with make() as journal:
        pid = (tmp_path / "journal.db.lock").read_text()
        with pytest.raises(TemporaryError, match=rf"pid {pid}"):
            await make().open()
        await journal.append("m", b"a 1")
    async with make() as journal:
        assert journal.stats().rows == 1


async def test_a_closed_journal_takes_nothing(make: Make) -> None:
    """append says so in its future; nobody is surprised by an exception."""
    journal = make()
    with pytest.raises(StoreError, match="not open"):
        await journal.append("m", b"a 1")


async def test_close_commits_what_waits(make: Make) -> None:
    """A clean stop loses nothing."""
    async with make(commit_interval="1h") as journal:
        await journal.append("m", b"a 1")
        last = journal.append("m", b"a 2")
    assert last.done()
    async with make() as journal:
        assert [record.lines for record in await fetch(journal)] == [b"a 1", b"a 2"]


async def test_quarantine_keeps_lines_with_their_reason(make: Make) -> None:
    """Refused lines are kept with who, when and why, and survive a restart."""
    async with make() as journal:
        await journal.append("m", b"a 1", source="pi")
        (record,) = await fetch(journal)
        journal.quarantine(record, b"a 1", "the store says no")
        await journal.reader().ack([record.seq])
        assert (journal.stats().quarantined, journal.stats().rows) == (1, 0)
    async with make() as journal:
        (kept,) = await journal.quarantined()
        assert (kept.machine, kept.source, kept.lines, kept.reason) == (
            "m",
            "pi",
            b"a 1",
            "the store says no",
        )


async def test_numbers_of_a_new_journal_never_meet_those_of_a_lost_one(
    make: Make, tmp_path: Path, clock: HeldClock
) -> None:
    """Late confirmations for a journal that is gone must not acknowledge rows of the next one."""
    async with make() as journal:
        await journal.append("m", b"a 1")
        before = journal.newest
    empty(tmp_path)
    clock.time += 1_000_000_000
    async with make() as journal:
        await journal.append("m", b"a 1")
        assert journal.newest > before + 500


async def test_bytes_written_are_counted(make: Make) -> None:
    """A hundred tags at 1 Hz with 1 s commits: under 500 MB a day on the medium, checkpoints included."""
    names = [f"machine_tag_number_{tag}" for tag in range(100)]
    commits = 300
    async with make() as journal:
        start = journal.stats().bytes_written
        for second in range(commits):
            values = ",".join(f"{name}={random.uniform(0, 100):.2f}" for name in names)
            await journal.append("m", f"readings,site=s,machine=m {values} {second}".encode(), urgent=True)
            journal.reader().ack(record.seq for record in await fetch(journal))
        written = (journal.stats().bytes_written - start) / commits * 86_400
    assert 50e6 < written < 500e6, f"{written / 1e6:.0f} MB a day"
