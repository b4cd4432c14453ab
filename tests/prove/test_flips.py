"""Flipped bits, and the same campaigns on builds broken on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.buffer import rows
from edge_agent.buffer.table import Records
from tests.prove import flips
from tests.prove.outage import outage


def test_a_flipped_bit_makes_nothing_up() -> None:
    """Three hundred flips anywhere: every line that comes out was written, every loss is counted."""
    tally = flips.campaign(300, seed=1)
    assert (tally.lost, tally.fake) == (0, 0), tally.seeds


def test_without_checksums_the_campaign_finds_made_up_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that believes what it reads is found out."""
    monkeypatch.setattr(rows, "_checksum", lambda *_fields: 0)
    tally = flips.campaign(300, seed=1)
    assert tally.fake > 0


async def test_without_the_count_the_outage_finds_uncounted_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that drops and does not say so is found out."""
    honest = Records.make_room
    monkeypatch.setattr(Records, "make_room", lambda self, limit: (honest(self, limit)[0], 0))
    account = await outage(tmp_path, 1800, max_size=2 * 1024**2)
    assert account.uncounted > 0
    assert account.lost > 0
