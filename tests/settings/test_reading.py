"""The reader against ruamel.yaml's own: the same tree for the same text, only faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from edge_agent.settings import nodes
from edge_agent.settings.reading import Composer, TooMuch

ROOT = Path(__file__).parents[2]
TEXTS = [
    (path.read_text(encoding="utf-8"))
    for path in [*(ROOT / "config").glob("*.yaml"), *(ROOT / "tests/testcases").rglob("*.yaml")]
]
SNIPPETS = [
    "a: b",
    "a:",
    "  b: c d e",
    "  - x: 1",
    "- {a: b, c: [1, 2 ,3], d: e f }",
    "  e: f # g",
    "    folded",
    "c: d:e",
    "c: http://x:1/y?z",
    "  k: 'x'",
    '"q": "w"',
    "# c",
    "",
    "a b: c",
    "  x: {a: 'b', c: d#e, f: g h}",
    "y: -1",
    "? z",
    ": v",
    "w: |",
    "  text: here",
    "---",
    "...",
    "t:  two  spaces  ",
    "e: é °C",
]


def reference(text: str) -> Any:
    node = YAML(typ="safe", pure=True).compose(text)
    return _shape(node)


def _shape(node: Any) -> Any:
    place = (node.start_mark.line + 1, node.start_mark.column + 1) if node is not None else None
    if isinstance(node, ScalarNode):
        return (place, node.value, node.style in (None, "") and not str(node.tag).startswith("!"))
    if isinstance(node, SequenceNode):
        return (place, [_shape(item) for item in node.value])
    if isinstance(node, MappingNode):
        return (place, [(_shape(key), _shape(value)) for key, value in node.value])
    return None


def ours(text: str) -> Any:
    return _our_shape(Composer(text, "f").compose())


def _our_shape(node: nodes.Node | None) -> Any:
    if isinstance(node, nodes.ScalarNode):
        return (node.place[1:], node.text, node.plain)
    if isinstance(node, nodes.ListNode):
        return (node.place[1:], [_our_shape(item) for item in node.items])
    if isinstance(node, nodes.MapNode):
        return (node.place[1:], [(_our_shape(e.key), _our_shape(e.value)) for e in node.entries.values()])
    return None


def compare(text: str) -> None:
    composer = Composer(text, "f")
    try:
        found = _our_shape(composer.compose())
    except (YAMLError, TooMuch) as error:
        found = error
    if composer.problems or isinstance(found, TooMuch):
        # Refused by rules of our own: keys twice, tags, several documents.
        return
    try:
        wanted = reference(text)
    except YAMLError as error:
        wanted = error
    if isinstance(wanted, Exception) or isinstance(found, Exception):
        assert isinstance(wanted, Exception) == isinstance(found, Exception), text
    else:
        assert found == wanted


def test_files_read_the_same() -> None:
    """Every example and every test case gives the tree that ruamel.yaml gives."""
    for text in TEXTS:
        if text.isprintable() or all(sign.isprintable() or sign in "\n\t" for sign in text):
            compare(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=8))
def test_any_lines_read_the_same(lines: list[str]) -> None:
    """Lines in any order, most of them nonsense together, give the same tree, or an error in both."""
    compare("\n".join(lines) + "\n")
