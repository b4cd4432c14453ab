"""SIGKILL: 300 kills in every run, in three shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove.kills import campaign

KILLS = 100


@pytest.mark.parametrize("share", range(3))
def test_sigkill_loses_nothing_acknowledged(tmp_path: Path, share: int) -> None:
    """A writer is killed at random moments, 100 times: after each death all it had promised is there."""
    tally = campaign(tmp_path, KILLS, seed=1 + share * KILLS)
    assert tally.acknowledged > KILLS, "a busy machine commits little in a life"
    assert (tally.lost, tally.fake) == (0, 0), tally.seeds
