"""Lines into InfluxDB: what its answers mean, and how a bad line is kept from holding up the good ones."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from edge_agent.errors import SinkUnavailable
from edge_agent.historian.http import Answer, NoAnswer, V1Writer, open_writer
from edge_agent.historian.ledger import FieldLedger, Line, SetAside
from edge_agent.historian.policies import Policies
from edge_agent.historian.store import Store
from edge_agent.settings.models import HistorianSettings
from edge_agent.types import Record

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
"""Bytes of lines in one request; halved and remembered where the server says that is too much."""
PATIENCE = 60.0
"""Seconds until the next try where trying soon again cannot help (wrong token, missing bucket)."""

_CONFLICT = re.compile(
    r'input field "(?P<field>(?:[^"\\]|\\.)*)" on measurement "(?P<measurement>(?:[^"\\]|\\.)*)" '
    r"is type \w+, already exists as type (?P<has>float|integer|boolean|string)"
)
_UNPARSABLE = re.compile(r"unable to parse '(?P<line>.*?)': (?P<why>[^\n]*)")
_TOO_OLD = re.compile(r"beyond retention policy")
_GARBLED = re.compile(r"(?i)(?!.*unable to parse).*(\bgzip\b|unexpected EOF)")
"""What a server says of a body that did not arrive as it was sent; we send no gzip."""
_DROPPED = re.compile(r"dropped=(\d+)")
_ADVICE = {
    401: "check historian.token, or username and password",
    403: "the token may not write to this bucket; give it write permission",
    404: "the bucket or database does not exist, or that is not InfluxDB's write interface; "
    "create it, or check historian.url, api and bucket",
    200: "that is not InfluxDB's answer to a write (204); check historian.url, and for a proxy in between",
}

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
        self._write(lines, aside)

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
            raise _unavailable(self._url, answer)
        if answer.status == 400 and _GARBLED.match(answer.message):
            raise SinkUnavailable(f"{self._url} did not get what was sent: {answer.message}", PATIENCE)
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
        if (conflict := _CONFLICT.search(message)) is not None:
            self._ledger.learn(conflict["measurement"], conflict["field"], conflict["has"])
            fitting = self._ledger.fit(lines, lambda *what: aside.append(what))
            if fitting != lines:
                self._write(fitting, aside)
                return
        if named := _named(lines, answer):
            for place, why in named.items():
                aside.append((*lines[place][:2], f"{self._url}: {why}"))
            self._write([line for place, line in enumerate(lines) if place not in named], aside)
            return
        self._search(lines, answer, aside)

    def _search(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """Find the bad lines by posting less and less, so that each costs a dozen requests in 5,000 lines."""
        start = 0
        while start < len(lines):
            start, answer = self._first_bad(lines, start, answer, aside)
            # what comes after the first bad line is not known to be bad
            if start < len(lines):
                rest = self._post(lines[start:])
                if rest.status == 204:
                    return
                if rest.status == 413 or _CONFLICT.search(rest.message) or _named(lines[start:], rest):
                    self._write(lines[start:], aside)
                    return
                answer = rest

    def _first_bad(self, lines: list[Line], start: int, answer: Answer, aside: _Aside) -> tuple[int, Answer]:
        """Write what comes before the first bad line from `start` on and set that one aside.

        `answer` was given to all of the lines from `start` on. Returns where to go on.
        """
        asked, stop = start, len(lines)
        while True:
            if asked == start and (stop - start == 1 or _all_dropped(answer, stop - start)):
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

    def _refused(self, line: Line, answer: Answer) -> tuple[Record, bytes, str]:
        old = "too_old: " if _TOO_OLD.search(answer.message) else ""
        return line.record, line.text, f"{old}{self._url} (HTTP {answer.status}): {answer.message}"


def _all_dropped(answer: Answer, count: int) -> bool:
    dropped = _DROPPED.search(answer.message)
    return dropped is not None and int(dropped[1]) == count


def _named(lines: Sequence[Line], answer: Answer) -> dict[int, str]:
    """The lines the server's answer names as bad, by their place, with its reason."""
    named = {}
    places = {line.text.decode("utf-8", "replace"): place for place, line in enumerate(lines)}
    for match in _UNPARSABLE.finditer(answer.message):
        if (place := places.get(match["line"])) is not None:
            named[place] = match[0]
    try:
        content = json.loads(answer.body)
        problems = content.get("data", []) if isinstance(content, dict) else []
        for problem in problems if isinstance(problems, list) else []:
            # InfluxDB 3: {"original_line", "line_number" from 1, "error_message"}
            place = int(problem["line_number"]) - 1
            if 0 <= place < len(lines):
                named[place] = str(problem["error_message"])
    except (ValueError, KeyError, TypeError):
        pass  # not InfluxDB 3's report: the lines are found by halving
    return named


def _unavailable(url: str, answer: Answer) -> SinkUnavailable:
    said = f": {answer.message}" if answer.message else ""
    advice = _ADVICE.get(answer.status)
    text = f"{url} answered {answer.status}{said}" + (f" ({advice})" if advice else "")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return SinkUnavailable(text, _retry_after(headers.get("retry-after")) or (PATIENCE if advice else None))


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
