"""`make prove`: the long campaigns, with what they found as a table and as JSON.

`HOURS=4 make prove` repeats the random ones until the time is over; `SEED=` begins them elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.prove import flips, kills, outage, power

WEEK = 7 * 86_400
"""Seconds; 500 tags at 1 Hz are 302 million readings in it."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Row:
    """One campaign: how much of it, and what it found. All of `found` must be 0."""

    name: str
    count: int
    unit: str
    found: dict[str, int]
    seconds: float
    seed: int
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether it found nothing."""
        return not any(self.found.values())


def _power(seed: int) -> Row:
    tally = power.campaign(10_000, seed)
    return _row("power cuts", "cuts", tally, seed)


def _kills(seed: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="edge-agent-kills-") as folder:
        return _row("SIGKILL", "kills", kills.campaign(Path(folder), 1000, seed), seed)


def _flips(seed: int) -> Row:
    return _row("flipped bits", "flips", flips.campaign(10_000, seed), seed)


def _week_with_room(seed: int) -> Row:
    return _week("week away, with room", 64 * 1024**3, seed)


def _week_at_2_gib(seed: int) -> Row:
    return _week("week away, at 2 GiB", 2 * 1024**3, seed)


def _week(name: str, max_size: int, seed: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="edge-agent-week-") as folder:
        account = asyncio.run(outage.outage(Path(folder), WEEK, max_size=max_size, seed=seed))
    found = {
        "lost": account.lost,
        "made up": account.fake,
        "repeated": account.repeated,
        "out of order": account.disordered,
        "uncounted": account.uncounted,
        "bytes over the size": max(0, account.most_bytes - max_size),
    }
    note = f"{account.dropped:,} dropped and counted, at most {account.most_bytes / 1024**3:.2f} GiB"
    return Row(name, account.emitted, "scans", found, account.seconds, seed, note)


def _row(name: str, unit: str, tally: power.Tally, seed: int) -> Row:
    found = {"lost": tally.lost, "made up": tally.fake, "uncounted": tally.uncounted, "broken": tally.broken}
    return Row(name, tally.cuts, unit, found, tally.seconds, seed)


CAMPAIGNS: tuple[Callable[[int], Row], ...] = (_power, _kills, _flips, _week_with_room, _week_at_2_gib)


def rows(seed: int, hours: float) -> Iterator[Row]:
    """Each campaign once, and again with other seeds until `hours` are over."""
    end = time.monotonic() + 3600 * hours
    while True:
        for campaign in CAMPAIGNS:
            yield campaign(seed)
        seed += 100_000
        if time.monotonic() > end:
            return


def main() -> int:
    """Run everything; 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="make prove", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "1")))
    parser.add_argument("--hours", type=float, default=float(os.environ.get("HOURS", "0")))
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    good = True
    print(f"commit {commit or 'unknown'}", file=sys.stderr)
    for row in rows(options.seed, options.hours):
        good = good and row.good
        found = ", ".join(f"{count} {what}" for what, count in row.found.items())
        text = f"{row.name:<24} {row.count:>9,} {row.unit:<8} {found}; seed {row.seed}, {row.seconds:.0f} s"
        text += f"; {row.note}" if row.note else ""
        print(json.dumps(asdict(row)) if options.json else text, flush=True)
    print("nothing was lost, made up or left uncounted" if good else "FOUND SOMETHING", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
