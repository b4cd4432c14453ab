"""Retention in InfluxDB 1.x: a policy for readings, one for minutes, and the minutes themselves.

InfluxDB drops what is over its policy's age. Minutes are made by `SELECT ... INTO` from all readings of a
minute, so that making one again changes nothing, and several historians may make the same. Which minutes have
changed is noted on the medium before the readings are written, so that neither a crash nor a late backlog
loses one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent.errors import SinkUnavailable
from edge_agent.historian.history import MINUTE
from edge_agent.historian.http import Answer, NoAnswer, V1Writer, quoted
from edge_agent.historian.ledger import Line
from edge_agent.historian.minutes import EVENTS
from edge_agent.settings.models import RetentionSettings

log = logging.getLogger(__name__)

RAW, MINUTES = "raw", "minute"
"""The policies' names."""
_LONGEST = 60
"""Minutes made by one question."""
_SOONEST, _LATEST = -150_000_000, 153_000_000
"""Minutes since 1970 that InfluxDB has room for."""
_GO_TIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")

Changed = dict[str, set[int]]
"""Measurement -> minutes since 1970."""


class _Refused(SinkUnavailable):
    """InfluxDB answered that it does not do what was asked."""


class Policies:
    """Makes policies and minutes through `writer`; `path` (JSON) holds what is to be made. For one thread."""

    def __init__(self, writer: V1Writer, settings: RetentionSettings, path: Path) -> None:
        self._writer = writer
        self._settings = settings
        self._path = path
        self._source = quoted(RAW)
        self._settled = False
        self._said: set[str] = set()
        self._new: Changed = defaultdict(set)
        # what was noted before the start is made at once; what changes now, once it has been at rest
        self._due = self._load()

    def create(self) -> Answer:
        """Make the database, with the policy for readings; does nothing where it is there."""
        self._settled = False
        name, length = self._writer.database, _influx_time(self._settings.raw)
        return self._writer.ask(
            f"CREATE DATABASE {name} WITH DURATION {length} REPLICATION 1 NAME {quoted(RAW)}"
        )

    def note(self, lines: Iterable[Line]) -> None:
        """Note, on the medium, that these lines are about to be written. OSError where that is impossible."""
        changed: Changed = defaultdict(set)
        for line in lines:
            minute = line.point.timestamp // MINUTE
            if _SOONEST <= minute <= _LATEST:
                changed[line.point.measurement].add(minute)
        for measurement, minutes in changed.items():
            self._new[measurement] |= minutes
        if any(minutes - self._saved.get(measurement, set()) for measurement, minutes in changed.items()):
            self._save()

    def tidy(self) -> None:
        """See to the policies and make the minutes that are at rest.

        SinkUnavailable where InfluxDB does not answer or refuses; what is to be made is kept.
        """
        if not (self._settled or self._settle()):
            return
        refusal = None
        for measurement in list(self._due):
            try:
                self._make(measurement)
            except _Refused as error:  # the others can be made
                refusal = error
        # A minute that is still being written is made once it is at rest, and two historians that write the
        # same one do not make it at the same moment.
        for measurement, minutes in self._new.items():
            self._due.setdefault(measurement, set()).update(minutes)
        self._new.clear()
        self._save()
        if refusal is not None:
            raise refusal
        self._shorten()

    def _make(self, measurement: str) -> None:
        minutes = self._due[measurement]
        for start, stop in list(_runs(minutes)):
            self._ask(self._question(measurement, start, stop))
            minutes.difference_update(range(start, stop))
        del self._due[measurement]

    def _question(self, measurement: str, start: int, stop: int) -> str:
        name = quoted(measurement)
        what = "*" if measurement in EVENTS else "mean(*), min(*), max(*), count(*)"
        by = "*" if measurement in EVENTS else "time(1m), * fill(none)"
        return (
            f"SELECT {what} "  # noqa: S608
            f"INTO {self._writer.database}.{quoted(MINUTES)}.{name} "
            f"FROM {self._writer.database}.{self._source}.{name} "
            f"WHERE time >= {start * MINUTE} AND time < {stop * MINUTE} GROUP BY {by}"
        )

    # --- policies

    def _settle(self) -> bool:
        """Find the policy that readings go to, and make the one for minutes; False without a database."""
        policies = self._policies()
        if policies is None:
            return False
        default = next((name for name, (_, is_default) in policies.items() if is_default), RAW)
        self._source = quoted(default)
        if MINUTES not in policies:
            length = _influx_time(self._settings.minute)
            self._ask(
                f"CREATE RETENTION POLICY {quoted(MINUTES)} ON {self._writer.database} "
                f"DURATION {length} REPLICATION 1"
            )
        if default != RAW and self._settings.raw is not None and policies[default][0] == 0:
            self._say(
                f"readings in {self._writer.database} are kept for ever by its policy {self._source}, which "
                f"is not ours to change; historian.retention.raw holds for databases the historian makes"
            )
        self._settled = True
        self._lengths = {name: length for name, (length, _) in policies.items()}
        return True

    def _shorten(self) -> None:
        """Give our policies the lengths of the configuration, unless minutes of what would go are due."""
        oldest = min((min(minutes) for minutes in self._due.values() if minutes), default=_LATEST) * 60
        for name, length in ((RAW, self._settings.raw), (MINUTES, self._settings.minute)):
            fits = length is None or oldest > time.time() - length
            if fits and self._lengths.get(name, length or 0) != (length or 0):
                self._ask(
                    f"ALTER RETENTION POLICY {quoted(name)} ON {self._writer.database} "
                    f"DURATION {_influx_time(length)} SHARD DURATION 0s"
                )
                self._lengths[name] = length or 0

    def _policies(self) -> Mapping[str, tuple[float, bool]] | None:
        """Name -> its length in seconds (0 is for ever) and whether it is the default; None: no database."""
        content = self._ask(f"SHOW RETENTION POLICIES ON {self._writer.database}", missing=True)
        if content is None:
            return None
        (series,) = content["results"][0]["series"]
        rows = [dict(zip(series["columns"], row, strict=True)) for row in series["values"]]
        return {row["name"]: (_seconds(row["duration"]), row["default"]) for row in rows}

    def _ask(self, question: str, *, missing: bool = False) -> Any:
        """The answer's content; None where the database is missing and may be."""
        try:
            answer = self._writer.ask(question)
        except NoAnswer as error:
            raise SinkUnavailable(f"InfluxDB does not answer: {error}") from error
        try:
            content = json.loads(answer.body)
            reason = content.get("error") or content["results"][0].get("error")
        except (ValueError, LookupError, AttributeError, TypeError):
            content, reason = None, answer.message or "an answer that is not InfluxDB's"
        if reason is None:
            return content
        if missing and "database not found" in reason:
            return None
        raise _Refused(f"InfluxDB answered {answer.status} to {question[:60]}...: {reason}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)

    # --- what is to be made

    def _load(self) -> Changed:
        self._saved: Changed = {}
        if not self._path.exists():
            return {}
        try:
            content = json.loads(self._path.read_bytes())
            return {
                name: {minute for run in runs for minute in range(*run)} for name, runs in content.items()
            }
        except (ValueError, AttributeError, TypeError) as error:
            aside = self._path.with_name(self._path.name + ".damaged")
            self._path.rename(aside)
            log.error(
                "%s is damaged (%s) and set aside as %s: minutes of what was written last may be missing",
                self._path,
                error,
                aside,
            )
            return {}

    def _save(self) -> None:
        names = self._due.keys() | self._new.keys()
        self._saved = {name: self._due.get(name, set()) | self._new.get(name, set()) for name in names}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({name: list(_runs(minutes)) for name, minutes in self._saved.items()}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _runs(minutes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Start and stop of the runs of minutes without a gap, none longer than `_LONGEST`."""
    start = stop = None
    for minute in sorted(minutes):
        if start is None or minute != stop or minute - start >= _LONGEST:
            if start is not None and stop is not None:
                yield start, stop
            start = minute
        stop = minute + 1
    if start is not None and stop is not None:
        yield start, stop


def _influx_time(seconds: float | None) -> str:
    return "INF" if seconds is None else f"{seconds:.0f}s"


def _seconds(text: str) -> float:
    """Seconds of `2160h0m0s`."""
    match = _GO_TIME.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return hours * 3600.0 + minutes * 60 + seconds
