"""The oracle says nothing of a good build, and finds out every build that is broken on purpose."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.buffer import Journal, Reader
from edge_agent.buffer.commits import GroupCommit
from edge_agent.lineprotocol import Point, parse
from edge_agent.types import Record
from edge_agent_drivers.modbus.pdu import Question
from tests.prove import device, launch, oracle, rehearsal
from tests.prove.rehearsal import rehearse

Patch = pytest.MonkeyPatch


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The ledger of this process."""
    monkeypatch.setattr(Journal, "append", Journal.append)  # what keep_ledger puts there ends with the test
    launch.begin_life(tmp_path / "ledger")
    launch.keep_ledger(str(tmp_path / "ledger"))
    return tmp_path / "ledger"


async def test_a_good_build_has_nothing_wrong(tmp_path: Path, ledger: Path) -> None:
    """A device that lies, a store whose answers are lost, a sudden end: nothing to find."""
    verdict = await rehearse(tmp_path, ledger)
    assert not any(verdict.found.values()), verdict.problems
    assert verdict.stored >= rehearsal.ROUNDS * 5
    assert verdict.repeats, "records did come again"


def _acknowledges_before_the_commit(monkeypatch: Patch) -> None:
    honest = GroupCommit.lines

    def lines(self: GroupCommit, *what: Any, **how: Any) -> asyncio.Future[None]:
        honest(self, *what, **how)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    monkeypatch.setattr(GroupCommit, "lines", lines)


def _believes_any_count(monkeypatch: Patch) -> None:
    def judge(self: Question, _name: str, _function: int, content: bytes) -> bytes:
        return content[1:].ljust(self.answer_bytes, b"\0")

    monkeypatch.setattr(Question, "judge", judge)


def _restamps(monkeypatch: Patch) -> None:
    def again(text: bytes) -> Point:
        point = parse(text)
        return point._replace(timestamp=time.time_ns())

    monkeypatch.setattr(rehearsal, "parse", again)


def _shuffles(monkeypatch: Patch) -> None:
    honest = Reader.fetch

    async def fetch(self: Reader, *what: Any, **how: Any) -> list[Record]:
        return (await honest(self, *what, **how))[::-1]

    monkeypatch.setattr(Reader, "fetch", fetch)


def _drops_and_does_not_count(monkeypatch: Patch) -> None:
    honest, number = GroupCommit.lines, itertools.count()

    def lines(self: GroupCommit, *what: Any, **how: Any) -> asyncio.Future[None]:
        if next(number) % 7 == 3:
            return asyncio.get_running_loop().create_future()
        return honest(self, *what, **how)

    monkeypatch.setattr(GroupCommit, "lines", lines)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (_acknowledges_before_the_commit, "lost"),
        (_believes_any_count, "fake"),
        (_restamps, "dup"),
        (_shuffles, "order"),
        (_drops_and_does_not_count, "uncounted"),
    ],
)
async def test_a_broken_build_is_found_out(
    tmp_path: Path, ledger: Path, monkeypatch: Patch, broken: Callable[[Patch], None], found: str
) -> None:
    """Each promise, broken on purpose, is found under its own name."""
    broken(monkeypatch)
    verdict = await rehearse(tmp_path, ledger)
    assert verdict.found[found] > 0, verdict


def test_a_late_answer_taken_for_the_next_is_found_out() -> None:
    """A value from an answer that came too late, or a line of two answers, is made up."""
    old = {f"t{tag}": float(device.value("m", tag, 7)) for tag in range(device.TAGS)}
    torn = {**old, "t1": float(device.value("m", 1, 8))}
    for values in (old, torn):
        line = Point("readings", {"machine": "m"}, dict(values), 1)
        verdict = oracle.judge(
            served=[("a", "m", 7, 0), ("A", "m", 8, 0)],
            ledger=[oracle.Life([line], [line])],
            stored=oracle.gathered([line]),
        )
        assert verdict.fake == 1, verdict


def test_writes_and_unread_answers_are_found_out() -> None:
    """A write request, and an answer of a machine nobody troubled that never came in, are seen."""
    verdict = oracle.judge(
        served=[("A", "m", 1, 0), ("W", "m", 6, 0)], ledger=[], stored={}, bystanders={"m": 0}
    )
    assert (verdict.writes, verdict.unread) == (1, 1)


async def test_the_device_sees_a_write(tmp_path: Path) -> None:
    """A request with a function that writes is in the device's log."""
    with (tmp_path / "log").open("w") as log:
        made = device.Device("m", log)
        await made._answer(struct.pack(">HHHBBHH", 1, 0, 6, 1, 6, 0, 1))
    assert [entry[0] for entry in device.served(tmp_path / "log")] == ["W", "A"]
