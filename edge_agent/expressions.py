"""The conditions of `running_when` and `active_when`: `motor_current > 12 and not tripped` (DECISIONS 25).

    expression := conjunction ("or" conjunction)*
    conjunction := negation ("and" negation)*
    negation := "not" negation | "(" expression ")" | comparison
    comparison := TAG [("<" | "<=" | ">" | ">=" | "==" | "!=") (NUMBER | "true" | "false")]

A tag alone is true where its value is not zero. A name with `-` or any other sign stands in backticks; a
named bit of a status word (`status.ready`) may be written plain. Logic is three-valued: a tag that is not
known (missing, bad) makes its comparison unknown, and unknown only vanishes where the other side decides
alone.
"""

from __future__ import annotations

import difflib
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent.types import Value

MAX_LENGTH = 2000
MAX_DEPTH = 50

Known = bool | None
"""True, False, or None for unknown."""

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS = frozenset({"and", "or", "not", "true", "false"})
# What people write out of habit from other languages, and what it is called here.
_INSTEAD = {
    "=": "==",
    "===": "==",
    "<>": "!=",
    "=>": ">=",
    "=<": "<=",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z_\d.]))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
    | `(?P<quoted>[^`]*)`
    | (?P<sign>[<>=!&|]+)
    | (?P<bracket>[()])
    )""",
    re.VERBOSE,
)


class ExpressionError(ValueError):
    """An expression that cannot be read; `column` counts from one."""

    def __init__(self, message: str, column: int) -> None:
        self.column = column
        self.message = message
        super().__init__(f"column {column}: {message}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """number, tag, sign, bracket, a keyword of its own, or end."""
    text: str
    column: int


class _Node(ABC):
    @abstractmethod
    def evaluate(self, values: Mapping[str, Value | None]) -> Known: ...


@dataclass(frozen=True, slots=True)
class _Comparison(_Node):
    tag: str
    compare: Callable[[float, float], bool]
    operand: float

    def evaluate(self, values: Mapping[str, Value | None]) -> Known:
        value = values.get(self.tag)
        # A NaN is "no value" too: `nan != 3` would come out true. Texts have no place on a number line.
        if value is None or isinstance(value, str) or value != value:
            return None
        return self.compare(float(value), self.operand)


@dataclass(frozen=True, slots=True)
class _Not(_Node):
    inner: _Node

    def evaluate(self, values: Mapping[str, Value | None]) -> Known:
        known = self.inner.evaluate(values)
        return None if known is None else not known


@dataclass(frozen=True, slots=True)
class _Chain(_Node):
    """Parts joined by `and` (a False decides) or `or` (a True decides)."""

    parts: tuple[_Node, ...]
    decider: bool

    def evaluate(self, values: Mapping[str, Value | None]) -> Known:
        unknown = False
        for part in self.parts:
            known = part.evaluate(values)
            if known is self.decider:
                return self.decider
            unknown = unknown or known is None
        return None if unknown else not self.decider


@dataclass(frozen=True, slots=True)
class Expression:
    """A condition over a machine's tags, ready to be evaluated scan by scan."""

    text: str
    tags: frozenset[str]
    """The tags it refers to."""
    columns: Mapping[str, int]
    """Where in `text` each tag is named first, counted from one."""
    _root: _Node

    def evaluate(self, values: Mapping[str, Value | None]) -> bool | None:
        """Whether the condition holds for these values by tag name; None where they don't tell.

        A tag that is missing, None, NaN or a text is unknown.
        """
        return self._root.evaluate(values)

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Expression:
    """The expression that `text` says; else ExpressionError (a ValueError) with column and suggestion."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters", MAX_LENGTH)
    parser = _Parser(text)
    root = parser.whole()
    return Expression(text, frozenset(parser.columns), parser.columns, root)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text, position)
        tokens.append(_token(match))
        position = match.end()
    tokens.append(_Token("end", "", end + 1))
    return tokens


def _token(match: re.Match[str]) -> _Token:
    kind = str(match.lastgroup)
    text = match[kind]
    column = match.start(kind) + 1
    if kind == "sign":
        if text not in _COMPARE:
            instead = _INSTEAD.get(text)
            hint = f"; write {instead}" if instead else f"; the comparisons are {' '.join(_COMPARE)}"
            raise ExpressionError(f"'{text}' is not known here{hint}", column)
        return _Token(kind, text, column)
    if kind == "quoted":
        if not text:
            raise ExpressionError("there is no tag name between the backticks", column)
        return _Token("tag", text, column)
    if kind == "name":
        if text.lower() in _WORDS:
            return _Token(text.lower(), text, column)
        return _Token("tag", text, column)
    return _Token(kind, text, column)


def _unreadable(text: str, position: int) -> ExpressionError:
    at = position + len(text[position:]) - len(text[position:].lstrip())
    sign, column = text[at], at + 1
    if sign == "`":
        return ExpressionError("the closing backtick is missing", column)
    if sign in "\"'":
        return ExpressionError(
            f"{sign} is not used here; a tag's name stands in backticks: `motor-1`", column
        )
    if sign in "-+*/%.":
        return ExpressionError(
            f"no arithmetic with '{sign}' here; a name that contains it stands in backticks: `motor-1`",
            column,
        )
    if sign.isdigit():
        return ExpressionError(
            "this is not a number; a name that begins with a digit stands in backticks", column
        )
    return ExpressionError(f"'{sign}' is not known here", column)


def _arithmetic(sign: str, column: int) -> ExpressionError:
    return ExpressionError(
        f"no arithmetic with '{sign}' here; a name that contains it stands in backticks: `motor-1`", column
    )


class _Parser:
    """Recursive descent over the tokens, one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.index = 0
        self.depth = 0
        self.columns: dict[str, int] = {}

    @property
    def next(self) -> _Token:
        return self.tokens[self.index]

    def take(self) -> _Token:
        token = self.next
        self.index += 1
        return token

    def whole(self) -> _Node:
        if self.next.kind == "end":
            raise ExpressionError("an expression is expected, e.g. motor_current > 12", 1)
        root = self.chain("or")
        if self.next.kind != "end":
            raise self.unexpected()
        return root

    def chain(self, word: str) -> _Node:
        parts = [self.part(word)]
        while self.next.kind == word:
            self.take()
            parts.append(self.part(word))
        return parts[0] if len(parts) == 1 else _Chain(tuple(parts), decider=word == "or")

    def part(self, word: str) -> _Node:
        return self.chain("and") if word == "or" else self.negation()

    def negation(self) -> _Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep", self.next.column)
        try:
            if self.next.kind == "not":
                self.take()
                return _Not(self.negation())
            if self.next.text == "(" and self.next.kind == "bracket":
                return self.bracketed()
            return self.comparison()
        finally:
            self.depth -= 1

    def bracketed(self) -> _Node:
        opened = self.take()
        inner = self.chain("or")
        if self.next.kind == "end":
            raise ExpressionError("this parenthesis is never closed", opened.column)
        if self.next.text != ")":
            raise self.unexpected()
        self.take()
        return inner

    def comparison(self) -> _Node:
        token = self.take()
        if token.kind != "tag":
            raise self.no_tag(token)
        self.columns.setdefault(token.text, token.column)
        if self.next.kind != "sign":
            return _Comparison(token.text, operator.ne, 0.0)
        sign = self.take()
        operand = self.take()
        if operand.kind == "number":
            return _Comparison(token.text, _COMPARE[sign.text], float(operand.text))
        if operand.kind in ("true", "false"):
            return self.with_truth(token, sign, truth=operand.kind == "true")
        if operand.kind == "end":
            raise ExpressionError(f"after {sign.text} a number, true or false is missing", operand.column)
        raise ExpressionError(
            f"a tag is compared with a number, true or false, not with '{operand.text}'", operand.column
        )

    def with_truth(self, tag: _Token, sign: _Token, *, truth: bool) -> _Node:
        # true is "not zero", so that a bool stored as 0 or 1 and a word with any bit set mean the same.
        if sign.text not in ("==", "!="):
            raise ExpressionError(f"true and false are compared with == or !=, not {sign.text}", sign.column)
        holds = truth == (sign.text == "==")
        return _Comparison(tag.text, operator.ne if holds else operator.eq, 0.0)

    def no_tag(self, token: _Token) -> ExpressionError:
        if token.kind == "end":
            return ExpressionError("a tag's name is missing at the end", token.column)
        if token.kind in ("number", "true", "false"):
            return ExpressionError(
                f"the tag comes first: write TAG == {token.text}, not {token.text} == TAG", token.column
            )
        return ExpressionError(f"a tag's name is expected before '{token.text}'", token.column)

    def unexpected(self) -> ExpressionError:
        token = self.next
        if token.text == ")":
            return ExpressionError("this parenthesis was never opened", token.column)
        if token.kind == "sign":
            return ExpressionError("comparisons are not chained; join two with and", token.column)
        if token.kind == "number" and token.text[0] in "+-":
            return _arithmetic(token.text[0], token.column)
        if token.kind == "tag":
            close = difflib.get_close_matches(token.text.lower(), ["and", "or"], n=1)
            if close:
                return ExpressionError(f"'{token.text}'? did you mean '{close[0]}'?", token.column)
        return ExpressionError(f"and, or or the end is expected before '{token.text}'", token.column)
