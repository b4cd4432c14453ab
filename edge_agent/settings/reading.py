"""YAML text -> tree of nodes: YAML 1.2, every key once, limits on size, depth and aliases.

The text is untrusted: nothing is constructed before the tree is known to be small, and the only objects that
come out are text, numbers, true, false and nothing.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ruamel.yaml.error import FileMark, MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.parser import Parser
from ruamel.yaml.reader import Reader
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tokens import ScalarToken

from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode
from edge_agent.settings.problems import Problem, at

MAX_BYTES = 2 * 1024**2
"""Largest file that is read; a tag with all its settings takes about 150 bytes."""
MAX_DEPTH = 20
MAX_NODES = 100_000
"""Most nodes of one file, aliases counted as often as they are used; a tag takes about ten."""
_MAX_TOKENS = 4 * MAX_NODES

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_TAGS = ("!secret", "!!str", "tag:yaml.org,2002:str")


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
_TOO_MANY = f"more than {MAX_NODES} values, aliases included"
_ENDS = (MappingEndEvent, SequenceEndEvent)


# Plain scalars that end within their line: `key: `, `a, `, `a}`, a value before a comment, or before a line
# (`next` is its indent) that is not indented further and so cannot go on with it.
_PLAIN_FLOW = re.compile(r"(?P<text>[^\s,\[\]{}:?#]+(?: [^\s,\[\]{}:?#]+)*)(?=: | *[,\]}])(?P<next>(?!))?")
_PLAIN_BLOCK = re.compile(
    r"(?P<text>[^\s:#]+(?::[^\s:#]+|[ ][^\s:#]+)*)(?:(?=:[ \n])|(?= +\#)|\n(?P<next> *)(?=[^\s\#]))"
)
_BREAKS = frozenset("\r\n\ufeff")


class TooMuch(Exception):
    """The text is past a limit."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def resolve(text: str) -> Any:
    """What a plain scalar is in YAML 1.2's core schema: `no` and `12:30` are text, `0x1F` is 31."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text) < 100 else text
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


class _Events(Reader, Scanner, Parser):
    """ruamel.yaml's scanner and parser in one, scanning all tokens first.

    Its scanner looks after every token whether it might still become a key, which is needed only for streams
    that never end; a file is scanned to its end, which halves the time `check` takes.
    """

    comment_handling = None
    processing_version = (1, 2)
    version = (1, 2)
    # In ruamel.yaml these two are properties, and are asked for at every character.
    reader = None
    scanner = None

    def __init__(self, text: str) -> None:
        self._resolver = self.reader = self.scanner = self
        Reader.__init__(self, text, loader=self)
        Scanner.__init__(self, loader=self)
        Parser.__init__(self, loader=self)
        self.taken = 0

    def scan(self) -> str:
        """Scan all there is, or up to a limit, which is then named.

        MarkedYAMLError at the first thing that is no token.
        """
        # Past these limits ruamel.yaml's time grows with the square of the depth.
        while not self.done:
            self.fetch_more_tokens()
            if len(self.flow_context) + len(self.indents) > 2 * MAX_DEPTH:
                return _TOO_DEEP
            if len(self.tokens) > _MAX_TOKENS:
                return _TOO_MANY
        return ""

    def forward(self, length: int = 1) -> None:
        """Go on by some signs: in one step within a line."""
        passed = self.buffer[self.pointer : self.pointer + length]
        if _BREAKS.isdisjoint(passed):
            self.pointer += length
            self.index += length
            self.column += length
        else:
            Reader.forward(self, length)

    def get_mark(self) -> FileMark:
        """The place reached, without the text around it."""
        return FileMark("", self.index, self.line, self.column)

    def scan_plain(self) -> Any:
        """A plain scalar, at once where it is one line that ends in plain sight."""
        match = (_PLAIN_FLOW if self.flow_context else _PLAIN_BLOCK).match(self.buffer, self.pointer)
        if match is None or (match["next"] is not None and len(match["next"]) > self.indent):
            return Scanner.scan_plain(self)
        start = self.get_mark()
        self.allow_simple_key = False
        self.forward(len(match["text"]))
        return ScalarToken(match["text"], True, start, self.get_mark())

    def check_token(self, *choices: Any) -> bool:
        return isinstance(self.tokens[self.taken], choices) if choices else self.taken < len(self.tokens)

    def peek_token(self) -> Any:
        return self.tokens[self.taken]

    def get_token(self) -> Any:
        self.taken += 1
        return self.tokens[self.taken - 1]


class Composer:
    """Builds the tree of one document; what is wrong with it but no hindrance goes to `problems`."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.depth = 0
        self.events = _Events(text)

    def compose(self) -> Node | None:
        """The document's root, None where it is empty. MarkedYAMLError or TooMuch where that fails."""
        try:
            limit = self.events.scan()
        except MarkedYAMLError as error:
            self._earlier(error)
            raise
        if limit:
            raise TooMuch(at(self._place(self.events.tokens[-1]), "E114", limit))
        return self._document()

    def _earlier(self, later: MarkedYAMLError) -> None:
        """Raise what the parser finds wrong in the lines before the one the scanner stopped at."""
        try:
            self._document()
        except IndexError:
            # The tokens end where the scanner stopped.
            return
        except MarkedYAMLError as error:
            # About the last token the parser may be wrong: it might have become a key.
            last = self.events.tokens[-1].start_mark
            if error.problem_mark.index < last.index and error.problem_mark.line < later.problem_mark.line:
                raise

    def _document(self) -> Node | None:
        self.events.get_event()
        if self.events.check_event(StreamEndEvent):
            return None
        self.events.get_event()
        root = self._node()
        self.events.get_event()
        if not self.events.check_event(StreamEndEvent):
            place = self._place(self.events.peek_event())
            self.problems.append(
                at(place, "E102", "a second document begins here", "a file holds one; remove the --- or ...")
            )
        return root

    def _place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self) -> Node:
        event = self.events.get_event()
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if isinstance(event, ScalarEvent):
            node: Node = self._scalar(event)
        else:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise TooMuch(at(self._place(event), "E114", _TOO_DEEP))
            node = self._map(event) if isinstance(event, MappingStartEvent) else self._list(event)
            self.depth -= 1
            if node.size > MAX_NODES:
                raise TooMuch(at(self._place(event), "E114", _TOO_MANY))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            raise MarkedYAMLError(None, None, f"found undefined alias {event.anchor!r}", event.start_mark)
        return node

    def _scalar(self, event: Any) -> ScalarNode:
        text = str(event.value)
        tag = None if event.tag is None else str(event.tag)
        is_plain = bool(event.implicit[0]) and tag is None
        if tag is not None and tag not in _TAGS:
            hint = "a text that begins with ! is put in quotes; !secret NAME looks a secret up"
            self.problems.append(at(self._place(event), "E102", f"'{tag}' is not known here", hint))
        value = resolve(text) if is_plain else text
        return ScalarNode(self._place(event), 1, text, is_plain, tag, value)

    def _list(self, event: Any) -> ListNode:
        node = ListNode(self._place(event))
        if not isinstance(event, SequenceStartEvent):
            raise TypeError(f"unexpected {event!r}")
        while not self.events.check_event(*_ENDS):
            item = self._node()
            node.items.append(item)
            node.size += item.size
        self.events.get_event()
        return node

    def _map(self, event: Any) -> MapNode:
        node = MapNode(self._place(event))
        merged: list[Node] = []
        while not self.events.check_event(*_ENDS):
            key, value = self._node(), self._node()
            node.size += value.size
            if not isinstance(key, ScalarNode):
                self.problems.append(
                    at(key.place, "E102", "a key is a name or a number, not a list or mapping")
                )
            elif key.text == "<<" and key.plain:
                merged.append(value)
            elif key.text in node.entries:
                self._twice(node.entries[key.text].key, key)
            else:
                node.entries[key.text] = Entry(key, value)
        self.events.get_event()
        for source in merged:
            self._merge(node, source)
        return node

    def _twice(self, first: ScalarNode, second: ScalarNode) -> None:
        hint = f"it is already in line {first.place.line}; remove one"
        self.problems.append(at(second.place, "E105", f"the key '{second.text}' stands twice", hint))

    def _merge(self, node: MapNode, source: Node) -> None:
        """`<<: *name` or `<<: [*a, *b]`: bring the entries this mapping does not say itself."""
        for item in source.items if isinstance(source, ListNode) else [source]:
            if not isinstance(item, MapNode):
                self.problems.append(at(item.place, "E107", "<< takes a mapping", "write <<: *name"))
                continue
            for key, entry in item.entries.items():
                node.entries.setdefault(key, entry)
