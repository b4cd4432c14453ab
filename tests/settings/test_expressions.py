"""`running_when` and `active_when`."""

from __future__ import annotations

import math

import pytest

from edge_agent.expressions import MAX_DEPTH, ExpressionError, parse
from edge_agent.types import Value


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("motor_current > 12.0", {"motor_current": 12.5}, True),
        ("motor_current > 12.0", {"motor_current": 12.0}, False),
        ("x>=-1.5e1", {"x": -15}, True),
        ("x == 3", {"x": 3}, True),
        ("x != 3", {"x": 3}, False),
        ("x <= .5", {"x": 0.5}, True),
        ("running", {"running": True}, True),
        ("running", {"running": 0}, False),
        ("running == true", {"running": 1.0}, True),
        ("running == true", {"running": 4}, True),
        ("running != true", {"running": False}, True),
        ("running == FALSE", {"running": 0.0}, True),
        ("not running", {"running": 0}, True),
        ("status.ready and not status.tripped", {"status.ready": 1, "status.tripped": 0}, True),
        ("`motor-1.current` > 2", {"motor-1.current": 3}, True),
        ("`and` > 2", {"and": 3}, True),
        ("a or b and c", {"a": 1, "b": 0, "c": 0}, True),
        ("(a or b) and c", {"a": 1, "b": 0, "c": 0}, False),
        ("not (a or b)", {"a": 0, "b": 0}, True),
        ("not not a", {"a": 2}, True),
        ("not a and b", {"a": 0, "b": 1}, True),
        ("a AND b Or c", {"a": 1, "b": 0, "c": 1}, True),
    ],
)
def test_evaluate(text: str, values: dict[str, Value | None], expected: bool) -> None:
    """The grammar means what an engineer expects, `and` before `or`, `not` before both."""
    assert parse(text).evaluate(values) is expected


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("a", {}, None),
        ("a", {"a": None}, None),
        ("a", {"a": math.nan}, None),
        ("a != 3", {"a": math.nan}, None),
        ("a > 3", {"a": "text"}, None),
        ("not a", {"a": None}, None),
        ("a and b", {"a": None, "b": 0}, False),
        ("a and b", {"a": None, "b": 1}, None),
        ("a or b", {"a": None, "b": 1}, True),
        ("a or b", {"a": None, "b": 0}, None),
    ],
)
def test_unknown_is_not_off(text: str, values: dict[str, Value | None], expected: bool | None) -> None:
    """A value that is not known leaves the answer unknown unless the rest decides alone."""
    assert parse(text).evaluate(values) is expected


def test_tags_and_where_they_are_named() -> None:
    """The tags an expression needs are known before a value is."""
    expression = parse("(a > 1 or status.ready) and `b-c` and a < 9")
    assert expression.tags == {"a", "status.ready", "b-c"}
    assert expression.columns == {"a": 2, "status.ready": 11, "b-c": 30}


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "an expression is expected"),
        ("a = 3", 3, "write =="),
        ("a > 3 && b", 7, "write and"),
        ("a => 3", 3, "write >="),
        ("!a", 1, "write not"),
        ("a >", 4, "number, true or false is missing"),
        ("a > b", 5, "not with 'b'"),
        ("a > true", 3, "== or !="),
        ("12 < a", 1, "the tag comes first"),
        ("(a > 3", 1, "never closed"),
        ("a > 3)", 6, "never opened"),
        ("a > 3 andd b", 7, "did you mean 'and'"),
        ("a > 3 b", 7, "and, or or the end"),
        ("1 < a < 3", 1, "the tag comes first"),
        ("a > 1 < 3", 7, "not chained"),
        ("motor-1 > 3", 6, "backticks"),
        ("`motor-1 > 3", 1, "closing backtick"),
        ("'motor' > 3", 1, "backticks"),
        ("a > 12A", 5, "not a number"),
        ("a and", 6, "missing at the end"),
        ("``", 2, "between the backticks"),
        ("a > 1 # high", 7, "'#' is not known"),
        ("not " * (MAX_DEPTH + 1) + "a", 4 * MAX_DEPTH + 1, "nested"),
    ],
)
def test_mistakes(text: str, column: int, says: str) -> None:
    """A mistake is named with its column and the way out, and is a ValueError."""
    with pytest.raises(ValueError, match=f"column {column}: ") as caught:
        parse(text)
    assert isinstance(caught.value, ExpressionError)
    assert caught.value.column == column
    assert says in str(caught.value)
