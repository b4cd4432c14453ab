"""The oracle: what the devices served, what the agent took and acknowledged, what the store holds.

Every value says which answer of which device it came in (tests/prove/device.py), every line that the agent
took is in a ledger beside it (tests/prove/launch.py): so what is stored can be proved genuine, and what is
missing can be put down to somebody.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge_agent.buffer import database
from edge_agent.buffer.rows import Row, unpack
from edge_agent.errors import StoreError
from edge_agent.historian.history import History
from edge_agent.lineprotocol import Point, parse
from edge_agent.types import Value
from tests.prove import device
from tests.prove.observer import Seen, disordered, repeats
from tests.support.influx import Influxd

SECOND = 10**9
STANDSTILL = SECOND // 2
"""Longest gap (ns) between two lines that counts as time in which the agent ran."""
MEASUREMENTS = ("readings", "quality", "alarms", "health")
Identity = tuple[str, tuple[tuple[str, str], ...], int]
"""Measurement, tags and ns: what InfluxDB takes for the same point."""
Stored = Mapping[Identity, Mapping[str, Value]]


@dataclass
class Verdict:
    """What a run came to. Those of `MUST` must be 0, the rest tells how it went."""

    lost: int = 0
    """Lines that were acknowledged and are neither in the store nor in a journal."""
    fake: int = 0
    """Stored lines that no device answered with, or that the agent never took."""
    dup: int = 0
    """Answers that are stored at two times."""
    order: int = 0
    """Lines that came, or are stored, before an older one of their machine."""
    uncounted: int = 0
    """Lines that the agent took, that are nowhere, and that no counter and no sudden end accounts for."""
    unread: int = 0
    """Answers of a device nobody troubled that the agent did not take, beyond one for each of its ends."""
    writes: int = 0
    """Requests to a device that were no reads."""
    acknowledged: int = 0
    stored: int = 0
    at_risk: int = 0
    """Lines that a sudden end took before their commit: the window at risk."""
    repeats: int = 0
    """Messages that were sent again."""
    problems: list[str] = field(default_factory=list)
    """The first few findings, in words."""

    MUST = ("lost", "fake", "dup", "order", "uncounted", "unread", "writes")

    @property
    def found(self) -> dict[str, int]:
        """What must be 0."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name in self.MUST}

    def find(self, what: str, count: int, text: str) -> None:
        """Note a finding."""
        if count:
            setattr(self, what, getattr(self, what) + count)
            if len(self.problems) < 20:
                self.problems.append(f"{what}: {text}")


@dataclass
class Life:
    """What one process of the agent took, and what of it was acknowledged, in order."""

    taken: list[Point] = field(default_factory=list)
    acknowledged: list[Point] = field(default_factory=list)


def lives(ledger: Path) -> list[Life]:
    """The agent's lives in a ledger; a last line that a kill cut short is left out."""
    found: list[Life] = []
    for text in ledger.read_bytes().split(b"\n")[:-1]:
        if text == b"S":
            found.append(Life())
        elif text.startswith(b"T"):
            found[-1].taken.append(parse(text[1:]))
        else:
            found[-1].acknowledged.append(parse(text[1:]))
    return found


def identity(point: Point) -> Identity:
    """What makes a point the same point."""
    return point.measurement, tuple(sorted(point.tags.items())), point.timestamp


def gathered(points: Iterable[Point]) -> dict[Identity, dict[str, Value]]:
    """Points by their identity, as a database merges them."""
    found: dict[Identity, dict[str, Value]] = defaultdict(dict)
    for point in points:
        found[identity(point)].update(point.fields)
    return found


def in_history(path: Path) -> dict[Identity, dict[str, Value]]:
    """What an embedded store holds."""
    with History(path) as history:
        return gathered(point for name in MEASUREMENTS for point in history.points(name))


def newest_in_history(path: Path, machine: str) -> int:
    """UTC ns of a machine's newest reading; 0 where there is none, or no store yet."""
    try:
        with History(path) as history:
            return max((ns for ns, _value in history.latest(machine).values()), default=0)
    except (StoreError, sqlite3.OperationalError):
        return 0  # the file, or its tables, are being made


def in_journal(path: Path) -> Iterator[Point]:
    """The lines that wait in a journal nobody has open."""
    for row in _rows(path, f"SELECT {database.COLUMNS} FROM records ORDER BY seq"):  # noqa: S608
        try:
            lines = unpack(Row(*row)).lines
        except StoreError:
            continue  # damaged, and counted by the journal when it comes to it
        for text in lines.split(b"\n"):
            yield parse(text)


def dropped(path: Path) -> dict[str, int]:
    """The lines that a journal says it lost, by reason."""
    for (text,) in _rows(path, "SELECT value FROM facts WHERE name = 'dropped'"):
        return dict(json.loads(text))
    return {}


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as sql:
        return sql.execute(query).fetchall()


def judge(
    *,
    served: Iterable[tuple[str, str, int, int]],
    ledger: Sequence[Life],
    stored: Stored,
    waiting: Iterable[Point] = (),
    counted: int = 0,
    records: Sequence[Seen] = (),
    window: float = 1.0,
    bystanders: Mapping[str, int] | None = None,
) -> Verdict:
    """Hold everything against everything.

    `window`: seconds of readings that a sudden end of the agent may take; the last of its lives is taken to
    have ended in good order. `bystanders`: machines nobody troubled, and how many of their answers may have
    met the agent's end.
    """
    verdict = Verdict(stored=len(stored), repeats=repeats(list(records)))
    answers: dict[str, set[int]] = defaultdict(set)
    for what, machine, number, _ns in served:
        verdict.find("writes", what == "W", f"{machine} was asked with function {number}")
        if what == "A":
            answers[machine].add(number)
    _genuine(verdict, stored, answers, gathered(point for life in ledger for point in life.taken))
    here = {**stored, **gathered(waiting)}
    _kept(verdict, ledger, here, counted, window)
    late = disordered(list(records))
    verdict.find("order", late, f"{late} records came after a younger one of their machine")
    for machine, spare in (bystanders or {}).items():
        took = {
            _sequence(point.fields, machine)
            for life in ledger
            for point in life.taken
            if point.measurement == "readings" and point.tags["machine"] == machine
        }
        missed = sorted(answers[machine] - took)
        verdict.find("unread", max(0, len(missed) - spare), f"{machine}: answers {missed[:9]} were not taken")
    return verdict


def _genuine(verdict: Verdict, stored: Stored, answers: Mapping[str, set[int]], taken: Stored) -> None:
    """FAKE, DUP, and the order in the store."""
    at: dict[tuple[str, int], int] = {}
    newest: dict[str, int] = defaultdict(int)
    for key, values in sorted(stored.items(), key=lambda item: item[0][2]):
        measurement, tags, ns = key
        if any(taken.get(key, {}).get(name) != value for name, value in values.items()):
            verdict.find("fake", 1, f"{key} {values} was never taken")
        if measurement != "readings":
            continue
        machine = dict(tags)["machine"]
        sequence = _sequence(values, machine)
        if sequence is None or sequence not in answers[machine]:
            verdict.find("fake", 1, f"{key} {values} was never answered ({sequence})")
        elif (machine, sequence) in at:
            verdict.find("dup", 1, f"answer {sequence} of {machine} at {at[machine, sequence]} and {ns}")
        else:
            at[machine, sequence] = ns
            verdict.find("order", sequence < newest[machine], f"{machine}: {sequence} stored out of order")
            newest[machine] = max(newest[machine], sequence)


def _sequence(values: Mapping[str, Value], machine: str) -> int | None:
    """The one answer that all values came in; None where they came in none, or in several."""
    found = {
        device.sequence_of(machine, int(name[1:]), float(value))
        for name, value in values.items()
        if isinstance(value, float | int)
    }
    return found.pop() if len(found) == 1 else None


def _kept(verdict: Verdict, ledger: Sequence[Life], here: Stored, counted: int, window: float) -> None:
    """LOST and UNCOUNTED."""
    missing = 0
    for life in ledger:
        known = set(map(identity, life.acknowledged))
        verdict.acknowledged += len(known)
        for point in life.acknowledged:
            if not _is_in(here, point):
                missing += 1
                if missing > counted:
                    verdict.find("lost", 1, f"{identity(point)} was acknowledged")
        rest = [point for point in life.taken if identity(point) not in known and not _is_in(here, point)]
        sudden = life is not ledger[-1]
        since = _running(life.taken, window)
        risked = [point for point in rest if sudden and point.timestamp >= since]
        verdict.at_risk += len(risked)
        missing += len(rest) - len(risked)
    verdict.find("uncounted", abs(missing - counted), f"{missing} are missing, {counted} are counted")


def _running(taken: Sequence[Point], window: float) -> int:
    """The time (ns) from which on the agent had run for `window` seconds when it ended.

    A long gap between two lines is time in which it stood still, or no machine answered.
    """
    left = int(window * SECOND)
    times = sorted((point.timestamp for point in taken), reverse=True)
    for after, before in pairwise(times):
        left -= min(after - before, STANDSTILL)
        if left < 0:
            return after
    return 0


def _is_in(here: Stored, point: Point) -> bool:
    held = here.get(identity(point), {})
    return all(held.get(name) == value for name, value in point.fields.items())


def lateness(served: Iterable[tuple[str, str, int, int]], machine: str, period: float) -> list[float]:
    """By how many seconds each answer of `machine` was later than `period` after the one before, sorted."""
    times = [ns for what, name, _number, ns in served if name == machine and what == "A"]
    return sorted(max(0.0, (after - before) / SECOND - period) for before, after in pairwise(times))


def in_influx(server: Influxd, database_: str) -> dict[Identity, dict[str, Value]]:
    """What an InfluxDB 1.x holds."""
    found: dict[Identity, dict[str, Value]] = defaultdict(dict)
    for measurement in MEASUREMENTS:
        for series in server.query(f"SELECT * FROM {measurement} GROUP BY *", database_):  # noqa: S608
            tags = tuple(sorted((name, value) for name, value in series["tags"].items() if value))
            for ns, *values in series["values"]:
                pairs = zip(series["columns"][1:], values, strict=True)
                found[measurement, tags, ns].update((k, v) for k, v in pairs if v is not None)
    return found


def newest_in_influx(server: Influxd, database_: str, machine: str) -> int:
    """UTC ns of a machine's newest reading; 0 where there is none."""
    series = server.query(f"SELECT last(t0) FROM readings WHERE machine = '{machine}'", database_)  # noqa: S608
    return int(series[0]["values"][0][0]) if series else 0
