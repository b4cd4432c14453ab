"""The journal under every order of use and misfortune that hypothesis finds."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.buffer.rows import Commit, RowKey
from edge_agent.buffer.store import Store
from edge_agent.errors import StoreError
from edge_agent.types import Priority
from tests.prove.medium import Medium, on
from tests.prove.power import BEGIN, contents, line, quiet

# apsw has room for one error of a statement; a medium without power gives several.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class JournalStates(RuleBasedStateMachine):
    """Appends, commits, acknowledgements, crashes, power cuts, full disks, clock steps and reloads."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="edge-agent-states-"))
        self.medium = Medium()
        self.context = contextlib.ExitStack()
        self.context.enter_context(self.medium)
        self.context.enter_context(on(self.medium))
        self.number = 0
        self.now = BEGIN
        self.full = False
        self.waiting: list[int] = []
        self.kept: dict[int, list[int]] = {}
        """Row -> its lines, as the journal has promised them."""
        self.pending: list[int] = []
        """Rows whose end was asked for and not committed yet."""

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        self.store = Store(
            self.folder / "journal.db", max_size=4 * 1024**2, reject_new=False, readers=("sink",)
        )
        self.store.open(self.now)

    def _abandon(self) -> None:
        self.store._drop_handle()
        self.store._lock.release()
        self.waiting.clear()
        self.pending.clear()

    @rule(count=st.integers(1, 30))
    def append(self, count: int) -> None:
        self.waiting += range(self.number + 1, self.number + count + 1)
        self.number += count

    @rule()
    def commit(self) -> None:
        commit = Commit(created=self.now, acks={"sink": list(self.pending)})
        for number in self.waiting:
            priority = Priority.ALARM if number % 11 == 0 else Priority.TELEMETRY
            commit.pieces.setdefault(RowKey(f"m{number % 5}", priority, ""), []).append(line(number))
        try:
            self.store.commit(commit)
        except sqlite3.Error:
            assert self.full, "only a full disk fails"
            self.store.reopen(self.now)
            return
        fresh = set(self.waiting)
        for seq in self.pending:
            self.kept.pop(seq, None)
        for seq, numbers in contents(self.store).items():
            if seq not in self.kept:
                self.kept[seq] = [number for number in numbers if number is not None]
                assert set(self.kept[seq]) <= fresh, "nothing but what was committed"
                fresh -= set(self.kept[seq])
        assert not fresh, "all of what was committed"
        self.waiting.clear()
        self.pending.clear()

    @rule(data=st.data())
    @precondition(lambda self: self.kept)
    def acknowledge(self, data: st.DataObject) -> None:
        seqs = data.draw(st.lists(st.sampled_from(sorted(self.kept)), unique=True, max_size=8))
        self.pending = sorted({*self.pending, *seqs})

    @rule()
    def refuse(self) -> None:
        """The sink takes nothing after all: what was acknowledged and not committed stays."""
        self.pending.clear()

    @rule()
    def crash(self) -> None:
        self._abandon()
        self._well()
        self._open()

    @rule(seed=st.integers(0, 2**16))
    def cut(self, seed: int) -> None:
        self.medium.power_off_at = self.medium.operations
        self._abandon()
        self.medium.cut(random.Random(seed))
        self._well()
        self._open()

    @rule()
    def reload(self) -> None:
        """A clean stop and start; what waits in memory is committed first."""
        self._well()
        self.commit()
        self.store.close()
        self._open()

    @rule(seconds=st.sampled_from([-400 * 86_400, -3600, 1, 3600, 10 * 365 * 86_400]))
    def step(self, seconds: int) -> None:
        self.now = max(0, self.now + seconds * 10**9)

    @rule()
    def fill(self) -> None:
        def refuse(operation: str) -> None:
            if operation == "write":
                raise apsw.FullError("no room")

        self.full, self.medium.before = True, refuse

    @rule()
    def free(self) -> None:
        self._well()

    def _well(self) -> None:
        self.full, self.medium.before, self.medium.power_off_at = False, lambda _operation: None, None

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {seq: set(numbers) for seq, numbers in contents(self.store).items()}
        assert found == {seq: set(numbers) for seq, numbers in self.kept.items()}
        assert sum(self.store.dropped.values()) == 0

    def teardown(self) -> None:
        self._well()
        with contextlib.suppress(sqlite3.Error, StoreError):
            self.store.close()
        self.context.close()
        shutil.rmtree(self.folder)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


JournalStates.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestJournalStates = JournalStates.TestCase
