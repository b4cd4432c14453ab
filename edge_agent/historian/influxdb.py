"""Lines into InfluxDB: what its answers mean, and how a bad line is kept from holding up the good ones."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.errors import SinkUnavailable
from edge_agent.historian import answers
from edge_agent.historian.answers import (
    ABOUT_LINES,
    CONFLICT,
    GARBLED,
    TOO_OLD,
    all_dropped,
    named,
    unavailable,
)
from edge_agent.historian.http import Answer, NoAnswer, V1Writer, open_writer
from edge_agent.historian.ledger import FieldLedger, Line, SetAside
from edge_agent.historian.policies import Policies
from edge_agent.historian.store import Store
from edge_agent.settings.models import HistorianSettings
from edge_agent.types import Record

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
"""Bytes of lines in one request; halved and remembered where the server says that is too much."""
FEW = 4
"""Bad lines in a body that are searched for one by one."""
SAMPLE = 16
"""Lines tried before the lines are no longer thought to be at fault."""

_Aside = list[tuple[Record, bytes, str]]


class InfluxStore(Store):
    """Writes to InfluxDB; a point is its measurement, tags, field and time, so sending twice is harmless.

    `path` is where it keeps, with `api: v1`, which minutes are to be made.
    """

    def __init__(
        self, settings: HistorianSettings, ledger: FieldLedger, set_aside: SetAside, path: Path
    ) -> None:
        self.requests = 0
        """Writes posted so far."""
        self._url = settings.url
        self._timeout = settings.timeout
        self._ledger = ledger
        self._set_aside = set_aside
        self._writer = open_writer(settings)
        self._policies: Policies | None = None
        if isinstance(self._writer, V1Writer):
            self._policies = Policies(self._writer, settings.retention, path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="influxdb")
        self._max_body = MAX_BODY
        self._taken = False
        """Whether the server has taken a line of the present delivery."""
        self._senseless: Answer | None = None
        """A refusal in it that speaks of no line."""

    @property
    def name(self) -> str:
        """`influxdb`."""
        return "influxdb"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Write the records' lines; those the server will never take are set aside with its reason.

        SinkUnavailable where it does not answer, is overloaded (with its Retry-After) or refuses us.
        """
        aside: _Aside = []
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store, records, aside)
        for record, lines, reason in aside:
            self._set_aside(record, lines, reason)

    async def tidy(self) -> None:
        """With `api: v1`: see to policies and make minutes. SinkUnavailable where that must wait."""
        if self._policies is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._policies.tidy)

    async def close(self) -> None:
        """Close the connections."""
        self._thread.shutdown(wait=False)
        self._writer.abort()
        await asyncio.get_running_loop().run_in_executor(None, self._writer.close)

    # --- in the thread

    def _store(self, records: Sequence[Record], aside: _Aside) -> None:
        lines = self._ledger.screen(records, lambda *what: aside.append(what))
        if self._policies is not None:
            try:
                self._policies.note(lines)
            except OSError as error:
                raise SinkUnavailable(f"what minutes are to be made cannot be noted: {error}") from error
        self._taken, self._senseless = False, None
        self._write(lines, aside)
        self._check_sense([])

    def _write(self, lines: list[Line], aside: _Aside) -> None:
        """Write the lines, in bodies of the size the server takes."""
        start = 0
        while start < len(lines):
            stop = self._fitting(lines, start)
            self._write_body(lines[start:stop], aside)
            start = stop

    def _fitting(self, lines: list[Line], start: int) -> int:
        size = 0
        for place in range(start, len(lines)):
            size += len(lines[place].text) + 1
            if size > self._max_body and place > start:
                return place
        return len(lines)

    def _write_body(self, lines: list[Line], aside: _Aside) -> None:
        answer = self._post(lines)
        if answer.status == 204:
            return
        if answer.status == 413:
            self._halve(lines, answer, aside)
        else:
            self._sort_out(lines, answer, aside)

    def _post(self, lines: list[Line]) -> Answer:
        """The server's answer: 204, or a no to these lines (400, 413, 422). SinkUnavailable for any other."""
        body = b"\n".join(line.text for line in lines)
        answer = self._answer(body)
        if answer.status == 404 and self._policies is not None and self._policies.create().status == 200:
            log.warning("the database was missing at %s and has been created", self._url)
            answer = self._answer(body)
        if answer.status not in (204, 400, 413, 422):
            raise unavailable(self._url, answer)
        self._taken = self._taken or answer.status == 204
        if answer.status == 400 and GARBLED.match(answer.message):
            raise SinkUnavailable(
                f"{self._url} did not get what was sent: {answer.message}", answers.PATIENCE
            )
        return answer

    def _answer(self, body: bytes) -> Answer:
        self.requests += 1
        deadline = threading.Timer(self._timeout, self._writer.abort)
        deadline.daemon = True
        deadline.start()
        try:
            return self._writer.write(body)
        except NoAnswer as error:
            raise SinkUnavailable(f"{self._url} does not answer: {error}") from error
        finally:
            deadline.cancel()

    def _halve(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """The body was too large: smaller ones, from now on."""
        if len(lines) == 1:
            aside.append(self._refused(lines[0], answer))
            return
        size = sum(len(line.text) + 1 for line in lines)
        self._max_body = max(min(size, self._max_body) // 2, 1024)
        if self._fitting(lines, 0) == len(lines):  # few long lines
            middle = len(lines) // 2
            self._write(lines[:middle], aside)
            self._write(lines[middle:], aside)
        else:
            self._write(lines, aside)

    def _sort_out(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """Some lines are bad: those the server names or else the first that is found; the rest is written."""
        message = answer.message
        if (conflict := CONFLICT.search(message)) is not None:
            self._ledger.learn(conflict["measurement"], conflict["field"], conflict["has"])
            fitting = self._ledger.fit(lines, lambda *what: aside.append(what))
            if fitting != lines:
                self._write(fitting, aside)
                return
        if bad := named(lines, answer):
            for place, why in bad.items():
                aside.append((*lines[place][:2], f"{self._url}: {why}"))
            self._write([line for place, line in enumerate(lines) if place not in bad], aside)
            return
        self._search(lines, answer, aside)

    def _search(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """Find the bad lines by posting less and less, so that each costs a dozen requests in 5,000 lines."""
        start = found = 0
        while start < len(lines):
            if found == FEW:
                self._halves(lines[start:], answer, aside)
                return
            start, answer = self._first_bad(lines, start, answer, aside)
            found += 1
            if found == FEW:
                self._check_sense(lines[start:])
            # what comes after the first bad line is not known to be bad
            if start < len(lines):
                rest = self._post(lines[start:])
                if rest.status == 204:
                    return
                if rest.status == 413 or CONFLICT.search(rest.message) or named(lines[start:], rest):
                    self._write(lines[start:], aside)
                    return
                answer = rest

    def _first_bad(self, lines: list[Line], start: int, answer: Answer, aside: _Aside) -> tuple[int, Answer]:
        """Write what comes before the first bad line from `start` on and set that one aside.

        `answer` was given to all of the lines from `start` on. Returns where to go on.
        """
        asked, stop = start, len(lines)
        while True:
            if asked == start and (stop - start == 1 or all_dropped(answer, stop - start)):
                aside.extend(self._refused(line, answer) for line in lines[start:stop])
                return stop, answer
            if stop - start == 1:  # only suspected, since the lines before it are not the bad ones
                answer = self._post(lines[start:stop])
                if answer.status == 204:
                    return stop, answer
                asked = start
                continue
            middle = start + (stop - start) // 2
            half = self._post(lines[start:middle])
            if half.status == 204:
                start = middle
            else:
                asked, stop, answer = start, middle, half

    def _halves(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """The same where many are bad: `answer` was a no to all of these."""
        if len(lines) == 1 or all_dropped(answer, len(lines)):
            aside.extend(self._refused(line, answer) for line in lines)
            return
        middle = len(lines) // 2
        for half in (lines[:middle], lines[middle:]):
            if (said := self._post(half)).status != 204:
                self._halves(half, said, aside)

    def _check_sense(self, others: list[Line]) -> None:
        """A server that refuses every line, and speaks of none, refuses something else: a setting of ours.

        Before that is said some of the `others` are tried, so that bad lines do not hold up good ones.
        """
        if self._senseless is None:
            return
        for line in random.sample(others, min(SAMPLE, len(others))):
            if not self._taken:
                self._post([line])
        if not self._taken:
            raise SinkUnavailable(
                f"{self._url} answered {self._senseless.status} to every line: {self._senseless.message}; "
                "check historian.api, org and bucket",
                answers.PATIENCE,
            )

    def _refused(self, line: Line, answer: Answer) -> tuple[Record, bytes, str]:
        if answer.status != 413 and not ABOUT_LINES.search(answer.message):
            self._senseless = answer
        old = "too_old: " if TOO_OLD.search(answer.message) else ""
        return line.record, line.text, f"{old}{self._url} (HTTP {answer.status}): {answer.message}"
