"""Outages of hours in virtual time; `make prove` makes them a week."""

from __future__ import annotations

from pathlib import Path

from tests.prove.outage import Account, outage

HOUR = 3600


def _nothing_wrong(account: Account) -> None:
    wrong = (account.lost, account.fake, account.repeated, account.disordered, account.uncounted)
    assert wrong == (0, 0, 0, 0, 0), account


async def test_an_outage_with_room_enough_loses_nothing(tmp_path: Path) -> None:
    """Two hours of 500 tags at 1 Hz come out in order, each once, when the sink is back."""
    account = await outage(tmp_path, 2 * HOUR, max_size=2 * 1024**3)
    _nothing_wrong(account)
    assert (account.emitted, account.dropped) == (72_000, 0)


async def test_an_outage_without_room_drops_what_it_counts(tmp_path: Path) -> None:
    """With room for a quarter the oldest are dropped, the count is exact and the file keeps to its size."""
    account = await outage(tmp_path, 2 * HOUR, max_size=8 * 1024**2)
    _nothing_wrong(account)
    assert account.dropped > account.emitted / 4
    assert account.most_bytes <= 8 * 1024**2
