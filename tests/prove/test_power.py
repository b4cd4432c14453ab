"""Power cuts and failing disks: 300 cuts in every run, and the same campaign on builds broken on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from edge_agent.buffer import Journal
from edge_agent.buffer.store import Store
from edge_agent.clock import Clock
from edge_agent.errors import StoreError
from edge_agent.settings.models import BufferSettings
from tests.prove.medium import Medium, on
from tests.prove.power import BEGIN, Tally, campaign, line, numbers_in

# apsw has room for one error of a statement; a medium without power gives several.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CUTS = 100
"""Of each share; three shares make the 300 of CI."""


@pytest.mark.parametrize("share", range(3))
def test_a_power_cut_loses_nothing_acknowledged(share: int) -> None:
    """Whatever part of the unsynced sectors is gone: nothing lost, nothing made up, no file unusable."""
    tally = campaign(CUTS, seed=1 + share * CUTS)
    assert tally.acknowledged > 20 * CUTS, "the journals were used"
    assert (tally.lost, tally.fake, tally.broken, tally.uncounted) == (0, 0, 0, 0), tally.seeds


def _in_most_cuts(tally: Tally) -> bool:
    return tally.bad >= 0.8 * tally.cuts


@pytest.mark.parametrize("broken", [{"synchronous": "NORMAL"}, {"synchronous": "OFF"}, {"lies": True}])
def test_the_campaign_finds_a_build_that_breaks_the_promise(broken: dict[str, object]) -> None:
    """Without the sync, or on a card that lies about it, acknowledged lines are lost in most cuts."""
    tally = campaign(40, seed=1, **broken)  # type: ignore[arg-type]
    assert _in_most_cuts(tally), tally
    assert tally.lost > 0


def _settings(**values: object) -> BufferSettings:
    return BufferSettings.model_validate({"commit_interval": "5ms", **values})


def _failing(wanted: str, at: int, error: Callable[[str], Exception]) -> Callable[[str], None]:
    """Fail every operation `wanted` from the `at`-th on; the count starts with the first call."""
    seen = 0

    def before(operation: str) -> None:
        nonlocal seen
        if operation == wanted:
            seen += 1
            if seen >= at:
                raise error("on purpose")

    return before


async def _use(journal: Journal, numbers: range) -> list[asyncio.Future[None]]:
    futures = []
    for number in numbers:
        futures.append(journal.append(f"m{number % 5}", line(number)))
        await asyncio.sleep(0.001)
    return futures


@pytest.mark.parametrize(
    ("operation", "error"),
    [("write", apsw.FullError), ("write", apsw.IOError), ("sync", apsw.IOError)],
    ids=["disk full", "failing write", "failing sync"],
)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13, 21])
async def test_a_disk_that_fails_for_a_while_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    error: Callable[[str], Exception],
    at: int,
) -> None:
    """Full or failing from the n-th operation on, then well again: every line is committed, once."""
    monkeypatch.setattr("edge_agent.buffer.commits.RETRY_FIRST", 0.02)
    with Medium() as medium, on(medium):
        journal = Journal(tmp_path / "journal.db", Clock(), _settings(), readers=["sink"])
        async with journal:
            futures = await _use(journal, range(1, 11))
            medium.before = _failing(operation, at, error)
            futures += await _use(journal, range(11, 31))
            await asyncio.sleep(0.05)
            if at <= 3:  # later the appends may be over by then
                assert journal.stats().error, "it says that the disk fails"
            medium.before = lambda _operation: None
            futures += await _use(journal, range(31, 41))
            async with asyncio.timeout(5):
                await asyncio.gather(*futures)
            assert sum(journal.stats().dropped.values()) == 0
            medium.cut(random.Random(at))
            left = tmp_path / "after" / "journal.db"
            left.parent.mkdir()
            for file in ("journal.db", "journal.db-wal"):
                if (tmp_path / file).exists():
                    (tmp_path / file).rename(left.parent / file)
    found = [number for number in await asyncio.to_thread(numbers_in, left) if number is not None]
    assert sorted(found) == list(range(1, 41)), "committed means on the medium, also after a failed sync"


@pytest.mark.parametrize(("interval", "most"), [(1, 500), (10, 150)])
def test_a_day_spares_the_card(tmp_path: Path, interval: int, most: int) -> None:
    """100 tags of five machines at 1 Hz write at most 500 MB a day at 1 s commits, 150 MB at 10 s."""
    from tests.prove.wear import megabytes_a_day

    figure = megabytes_a_day(tmp_path / "journal.db", interval=interval)
    assert figure <= most, f"{figure:.0f} MB a day"


def test_a_folder_that_cannot_be_synced_is_said(tmp_path: Path) -> None:
    """Where the names of new files cannot be made to last, opening says so, and can be repeated."""
    store = Store(tmp_path / "journal.db", max_size=1024**2, reject_new=False, readers=("sink",))
    with Medium() as medium, on(medium):
        medium.before = _failing("sync folder", 1, apsw.IOError)
        with pytest.raises(StoreError, match="cannot be synced"):
            store.open(BEGIN)
        medium.before = lambda _operation: None
        store.open(BEGIN)
        store.close()
