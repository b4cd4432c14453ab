"""Lines into InfluxDB: what its answers mean, and how a bad line is kept from holding up the good ones."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from edge_agent.contracts.plugs import Sink
from edge_agent.errors import SinkUnavailable
from edge_agent.historian.http import Answer, NoAnswer, open_writer
from edge_agent.historian.ledger import FieldLedger, Line, SetAside
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
_DROPPED = re.compile(r"dropped=(\d+)")
_ADVICE = {
    401: "check historian.token, or username and password",
    403: "the token may not write to this bucket; give it write permission",
    404: "the bucket or database does not exist, or that is not InfluxDB's write interface; "
    "create it, or check historian.url, api and bucket",
    200: "that is not InfluxDB's answer to a write (204); check historian.url, and for a proxy in between",
}

_Aside = list[tuple[Record, bytes, str]]


class InfluxStore(Sink):
    """Writes to InfluxDB; a point is its measurement, tags, field and time, so sending twice is harmless."""

    def __init__(self, settings: HistorianSettings, ledger: FieldLedger, set_aside: SetAside) -> None:
        self.requests = 0
        """Writes posted so far."""
        self._url = settings.url
        self._timeout = settings.timeout
        self._ledger = ledger
        self._set_aside = set_aside
        self._writer = open_writer(settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="influxdb")
        self._max_body = MAX_BODY
        self._stuck: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """`influxdb`."""
        return "influxdb"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Write the records' lines; those the server will never take are set aside with its reason.

        SinkUnavailable where it does not answer, is overloaded (with its Retry-After) or refuses us.
        """
        if self._stuck is not None and not self._stuck.done():
            raise SinkUnavailable(f"{self._url} is still busy with an earlier request")
        aside: _Aside = []
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._store, records, aside)
        try:
            # a server that trickles its answer is within urllib3's timeout for ever
            async with asyncio.timeout(self._timeout * 2 + 1):
                await asyncio.shield(work)
        except TimeoutError as error:
            self._stuck = work
            work.add_done_callback(lambda done: done.exception())
            raise SinkUnavailable(f"{self._url} did not answer within {self._timeout * 2:g} s") from error
        finally:
            for record, lines, reason in aside:
                self._set_aside(record, lines, reason)

    async def close(self) -> None:
        """Close the connections."""
        self._thread.shutdown(wait=False)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.close)

    # --- in the thread

    def _store(self, records: Sequence[Record], aside: _Aside) -> None:
        lines = self._ledger.screen(records, lambda *what: aside.append(what))
        start, size = 0, 0
        for place, line in enumerate(lines):
            if size and size + len(line.text) > self._max_body:
                self._write(lines[start:place], aside)
                start, size = place, 0
            size += len(line.text) + 1
        self._write(lines[start:], aside)

    def _write(self, lines: list[Line], aside: _Aside) -> None:
        if not lines:
            return
        body = b"\n".join(line.text for line in lines)
        answer = self._post(body)
        if answer.status == 404 and (made := self._writer.create()) is not None and made.status == 200:
            log.warning("the database was missing at %s and has been created", self._url)
            answer = self._post(body)
        if answer.status == 204:
            return
        if answer.status in (400, 422):
            self._sort_out(lines, answer, aside)
        elif answer.status == 413:
            self._max_body = max(len(body) // 2, 1024)
            self._halve(lines, answer, aside)
        else:
            raise _unavailable(self._url, answer)

    def _post(self, body: bytes) -> Answer:
        self.requests += 1
        try:
            return self._writer.write(body)
        except NoAnswer as error:
            raise SinkUnavailable(f"{self._url} does not answer: {error}") from error

    def _sort_out(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        """Some lines are bad. What the server says about them first, else halves; good lines are written."""
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
        dropped = _DROPPED.search(message)
        if dropped is not None and int(dropped[1]) == len(lines):
            aside.extend((line.record, line.text, f"{self._url}: {message}") for line in lines)
            return
        self._halve(lines, answer, aside)

    def _halve(self, lines: list[Line], answer: Answer, aside: _Aside) -> None:
        if len(lines) == 1:
            aside.append((*lines[0][:2], f"{self._url} (HTTP {answer.status}): {answer.message}"))
            return
        middle = len(lines) // 2
        self._write(lines[:middle], aside)
        self._write(lines[middle:], aside)


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
