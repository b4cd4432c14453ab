"""What InfluxDB's answers mean, in the words of its versions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from edge_agent.errors import SinkUnavailable
from edge_agent.historian.http import Answer
from edge_agent.historian.ledger import Line

PATIENCE = 60.0
"""Seconds until the next try where trying soon again cannot help (wrong token, missing bucket)."""
CONFLICT = re.compile(
    r'input field "(?P<field>(?:[^"\\]|\\.)*)" on measurement "(?P<measurement>(?:[^"\\]|\\.)*)" '
    r"is type \w+, already exists as type (?P<has>float|integer|boolean|string)"
)
_UNPARSABLE = re.compile(r"unable to parse '(?P<line>.*?)': (?P<why>[^\n]*)")
TOO_OLD = re.compile(r"beyond retention policy")
ABOUT_LINES = re.compile(
    r"(?i)parse|partial write|conflict|dropped|line|point|field|column|tag|time|retention"
)
GARBLED = re.compile(r"(?i)(?!.*unable to parse).*(\bgzip\b|unexpected EOF)")
"""What a server says of a body that did not arrive as it was sent; we send no gzip."""
_DROPPED = re.compile(r"dropped=(\d+)")
_ADVICE = {
    401: "check historian.token, or username and password",
    403: "the token may not write to this bucket; give it write permission",
    404: "the bucket or database does not exist, or that is not InfluxDB's write interface; "
    "create it, or check historian.url, api and bucket",
    200: "that is not InfluxDB's answer to a write (204); check historian.url, and for a proxy in between",
}


def all_dropped(answer: Answer, count: int) -> bool:
    """Whether the server says that it dropped all of the `count` lines it was sent."""
    dropped = _DROPPED.search(answer.message)
    return dropped is not None and int(dropped[1]) == count


def named(lines: Sequence[Line], answer: Answer) -> dict[int, str]:
    """The lines the server's answer names as bad, by their place, with its reason."""
    found = {}
    places = {line.text.decode("utf-8", "replace"): place for place, line in enumerate(lines)}
    for match in _UNPARSABLE.finditer(answer.message):
        if (place := places.get(match["line"])) is not None:
            found[place] = match[0]
    try:
        content = json.loads(answer.body)
        problems = content.get("data", []) if isinstance(content, dict) else []
        for problem in problems if isinstance(problems, list) else []:
            # InfluxDB 3: {"original_line", "line_number" from 1, "error_message"}
            place = int(problem["line_number"]) - 1
            if 0 <= place < len(lines):
                found[place] = str(problem["error_message"])
    except (ValueError, KeyError, TypeError):
        pass  # not InfluxDB 3's report: the lines are found by halving
    return found


def unavailable(url: str, answer: Answer) -> SinkUnavailable:
    """The error for an answer that is not about lines, with advice and the server's wish for a pause."""
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
