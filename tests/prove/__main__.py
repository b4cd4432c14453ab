"""`make prove`: the long campaigns, with what they found as a table and as JSON.

About 40 minutes. `HOURS=4 make prove` repeats them until the time is over and makes the soak as long as the
rest; `SEED=` begins elsewhere; `ARGS="--only chaos --scale 0.1"` runs a part of them, or less of each.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.prove import chaos, flips, kills, network, outage, points, power, soak
from tests.prove.site import Store

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
    commit: str = ""

    @property
    def good(self) -> bool:
        """Whether it found nothing."""
        return not any(self.found.values())

    @property
    def text(self) -> str:
        """As a line of a table."""
        wrong = ", ".join(f"{count} {what}" for what, count in self.found.items() if count)
        found = wrong or f"0 {', '.join(self.found)}" if self.found else ""
        note = f"; {self.note}" if self.note else ""
        size = f"{self.count:,} {self.unit}"
        return f"| {self.name} | {size} | {found}{note} | {self.seed} | {self.seconds:.0f} s |"


HEAD = "| campaign | size | found | seed | time |\n|---|---|---|---|---|"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: 1 is the default."""

    scale: float
    hours: float

    def of(self, count: int) -> int:
        """As much of `count`, at least one."""
        return max(1, round(count * self.scale))

    @property
    def soak(self) -> float:
        """Seconds."""
        return max(300 * self.scale, 1800 * self.hours)


def _power(seed: int, size: Size) -> Row:
    return _row("power cuts", "cuts", power.campaign(size.of(10_000), seed), seed)


def _kills(seed: int, size: Size) -> Row:
    with _folder() as folder:
        return _row("SIGKILL at random", "kills", kills.campaign(folder, size.of(1000), seed), seed)


def _flips(seed: int, size: Size) -> Row:
    return _row("flipped bits", "flips", flips.campaign(size.of(5_000), seed), seed)


def _week_with_room(seed: int, size: Size) -> Row:
    return _week("week away, with room", 64 * 1024**3, seed, size)


def _week_at_2_gib(seed: int, size: Size) -> Row:
    return _week("week away, at 2 GiB", 2 * 1024**3, seed, size)


def _week(name: str, max_size: int, seed: int, size: Size) -> Row:
    with _folder() as folder:
        account = asyncio.run(outage.outage(folder, size.of(WEEK), max_size=max_size, seed=seed))
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


def _points(seed: int, size: Size) -> Row:
    began = time.monotonic()
    with _folder() as folder:
        verdict, count = points.campaign(folder, size.of(20))
    note = f"{verdict.acknowledged:,} lines acknowledged, {verdict.at_risk:,} at risk"
    return Row("SIGKILL at failpoints", count, "kills", verdict.found, time.monotonic() - began, seed, note)


def _chaos(seed: int, size: Size) -> Row:
    return _rage("chaos", 600, "embedded", seed, size)


def _chaos_influxdb(seed: int, size: Size) -> Row:
    return _rage("chaos with InfluxDB", 120, "influxdb", seed, size)


def _rage(name: str, seconds: int, store: Store, seed: int, size: Size) -> Row:
    with _folder() as folder:
        report = chaos.campaign(folder, size.of(seconds), seed, store=store)
    note = (
        f"{report.verdict.acknowledged:,} lines acknowledged, {report.verdict.at_risk:,} at risk, "
        f"healed in {report.heal:.1f} s, bystander p99 {1000 * report.late:.0f} ms late"
    )
    note += f", {report.skipped}" if report.skipped else ""
    return Row(name, report.faults.total(), "faults", report.verdict.found, report.seconds, seed, note)


def _soak(seed: int, size: Size) -> Row:
    began = time.monotonic()
    with _folder() as folder:
        report = soak.campaign(folder, size.soak)
    note = f"{report.memory:+.1f} MB to {report.megabytes:.0f} MB"
    return Row("soak", report.rounds, "rounds", report.found, time.monotonic() - began, seed, note)


def _network(seed: int, _size: Size) -> Row:
    if why := network.why_not():
        return Row("network", 0, "faults", {}, 0.0, seed, f"skipped: {why}")
    began = time.monotonic()
    with _folder() as folder:
        report = network.campaign(folder, long=True)
    note = "healed: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.heal.items())
    seconds = time.monotonic() - began
    return Row("network", len(report.heal), "faults", report.verdict.found, seconds, seed, note)


class _folder(tempfile.TemporaryDirectory[str]):
    """A folder for one campaign."""

    def __init__(self) -> None:
        super().__init__(prefix="edge-agent-prove-")

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def _row(name: str, unit: str, tally: power.Tally, seed: int) -> Row:
    found = {"lost": tally.lost, "made up": tally.fake, "uncounted": tally.uncounted, "broken": tally.broken}
    return Row(name, tally.cuts, unit, found, tally.seconds, seed, f"{tally.acknowledged:,} lines")


CAMPAIGNS: Mapping[str, Callable[[int, Size], Row]] = {
    "power": _power,
    "kills": _kills,
    "points": _points,
    "chaos": _chaos,
    "chaos-influxdb": _chaos_influxdb,
    "soak": _soak,
    "network": _network,
    "flips": _flips,
    "week": _week_with_room,
    "week-2gib": _week_at_2_gib,
}


def rows(names: list[str], seed: int, size: Size) -> Iterator[Row]:
    """Each campaign once, and again with other seeds until the hours are over."""
    end = time.monotonic() + 3600 * size.hours
    while True:
        for name in names:
            yield CAMPAIGNS[name](seed, size)
        seed += 100_000
        if time.monotonic() > end:
            return


def _commit() -> str:
    describe = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> int:
    """Run everything; 0 where nothing was found."""
    parser = argparse.ArgumentParser(
        prog="make prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", "1")))
    parser.add_argument("--hours", type=float, default=float(os.environ.get("HOURS", "0")))
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=list(CAMPAIGNS), metavar="CAMPAIGN")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each; default 1")
    parser.add_argument("--json", action="store_true", help="JSON lines on standard output")
    options = parser.parse_args()
    commit, began = _commit(), time.monotonic()
    good = True
    if not options.json:
        print(f"commit {commit}\n\n{HEAD}", flush=True)
    for row in rows(options.only, options.seed, Size(options.scale, options.hours)):
        good = good and row.good
        row.commit = commit
        print(json.dumps(asdict(row)) if options.json else row.text, flush=True)
    verdict = "nothing was lost, made up or left uncounted" if good else "FOUND SOMETHING"
    print(f"{verdict}, in {(time.monotonic() - began) / 60:.0f} minutes", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
