"""Slips made on purpose at known places of valid files: how often `check` points at them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent import registry
from edge_agent.settings import shape, syntax
from edge_agent.settings.load import load
from edge_agent.settings.models import Configuration
from edge_agent.settings.nodes import ListNode, MapNode, Node, ScalarNode, text_of
from edge_agent.settings.unknown import ELSEWHERE

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "config" / name for name in ("agent.yaml", "opcua.yaml", "profile.yaml")]
CHOICES = (
    "driver",
    "type",
    "payload",
    "kind",
    "api",
    "mode",
    "priority",
    "on_full",
    "unsynced",
    "byte_order",
)
FILES.append(ROOT / "tests/testcases/valid/interface/agent.yaml")


@dataclass(frozen=True)
class Slip:
    """One mistake: the whole text with it, where it is, and what should be suggested (one of these)."""

    kind: str
    text: str
    line: int
    column: int
    meant: tuple[str, ...] = ()


@dataclass
class Rates:
    """How often what was said was right."""

    slips: int = 0
    line: list[str] = field(default_factory=list)
    column: list[str] = field(default_factory=list)
    asked: int = 0
    suggestion: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def rate(wrong: int, of: int) -> str:
            return f"{1 - wrong / max(1, of):.1%}"

        return (
            f"{self.slips} slips: line {rate(len(self.line), self.slips)}, "
            f"column {rate(len(self.column), self.slips)}, "
            f"suggestion {rate(len(self.suggestion), self.asked)} of {self.asked}"
        )


@dataclass(frozen=True)
class Key:
    """A key of a model in a file, with the models whose key it is."""

    node: ScalarNode
    value: Node
    known: tuple[str, ...]


def keys(node: Node, models: list[shape.Model]) -> Iterator[Key]:
    """Every key below `node` that a model knows; names that people choose are left out."""
    known = tuple(name for model in models for name in shape.keys(model))
    for text, entry in node.entries.items() if isinstance(node, MapNode) else ():
        if not models or text in known:
            if models:
                yield Key(entry.key, entry.value, known)
            yield from keys(entry.value, [m for model in models for m in shape.models_at(model, [text])])
            yield from _named(entry.value, models, text)


def _named(node: Node, models: list[shape.Model], key: str) -> Iterator[Key]:
    """The keys below mappings by name (tags, bits), whose models stand one level further down."""
    if isinstance(node, MapNode) and not [m for model in models for m in shape.models_at(model, [key])]:
        for name, entry in node.entries.items():
            yield from keys(entry.value, [m for model in models for m in shape.models_at(model, [key, name])])


def of_file(text: str) -> list[Key]:
    """All keys of a configuration's text."""
    root = syntax.read(text, "agent.yaml").root
    assert isinstance(root, MapNode)
    found = list(keys(root, [Configuration]))
    for _, _, machine in root.mappings("machines"):
        found += keys(machine, [registry.driver_settings(text_of(machine.get("driver")) or "modbus")])
    return found


def misspelt(word: str, chance: random.Random) -> str:
    """A word with one slip of the finger."""
    at = chance.randrange(1, len(word))
    return chance.choice([
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
        word[:at] + chance.choice("aeinrst") + word[at + 1 :],
    ])  # fmt: skip


def put(text: str, node: Node, old: str, new: str) -> str:
    """The text with what stands at a node replaced."""
    lines = text.split("\n")
    line, column = node.place.line - 1, node.place.column - 1
    assert lines[line][column:].startswith(old), (lines[line], old)
    lines[line] = lines[line][:column] + new + lines[line][column + len(old) :]
    return "\n".join(lines)


def _at(node: Node, kind: str, text: str, *meant: str) -> Slip:
    return Slip(kind, text, node.place.line, node.place.column, meant)


def in_keys(text: str, chance: random.Random) -> Iterator[Slip]:
    """Each key misspelt."""
    for key in of_file(text):
        word = key.node.text
        wrong = misspelt(word, chance)
        if len(word) > 2 and wrong != word and wrong not in key.known:
            yield Slip(
                "key", put(text, key.node, word, wrong), key.node.place.line, key.node.place.column, (word,)
            )


def foreign(text: str, chance: random.Random) -> Iterator[Slip]:
    """Each key in capitals, with hyphens, or as another program calls it."""
    for key in of_file(text):
        word = key.node.text
        words = [word.capitalize(), word.replace("_", "-")]
        words += [other for other, ours in ELSEWHERE.items() if ours == word and other not in key.known]
        for wrong in {*words} - {word}:
            yield _at(key.node, "word", put(text, key.node, word, wrong), word)


def in_values(text: str, chance: random.Random) -> Iterator[Slip]:
    """A number or duration that is a word, a duration without unit, a list in the place of a number."""
    for key in of_file(text):
        value = key.value
        if not isinstance(value, ScalarNode) or not value.plain or value.tag:
            continue
        place = value.place
        if isinstance(value.value, int | float) and not isinstance(value.value, bool):
            for wrong in ("abc", f"'{value.text}'", f"{value.text}x", "[1, 2]"):
                yield Slip("number", put(text, value, value.text, wrong), place.line, place.column)
        elif value.text[0].isdigit() and value.text[-1] in "smhdB":
            number = value.text.rstrip("smhdkKMGiB")
            yield Slip("duration", put(text, value, value.text, number), place.line, place.column)
            yield Slip("duration", put(text, value, value.text, "often"), place.line, place.column)


def in_choices(text: str, chance: random.Random) -> Iterator[Slip]:
    """A word of a closed list misspelt."""
    for key in of_file(text):
        value = key.value
        if key.node.text in CHOICES and isinstance(value, ScalarNode) and value.plain and len(value.text) > 3:
            wrong = misspelt(value.text, chance)
            if wrong != value.text:
                place = value.place
                meant = () if key.node.text == "byte_order" else (value.text,)
                # `int32` with one sign wrong may just as well be uint32.
                if value.text[-1].isdigit():
                    meant = (value.text.rstrip("0123456789"),)
                yield Slip("choice", put(text, value, value.text, wrong), place.line, place.column, meant)


def twice(text: str, chance: random.Random) -> Iterator[Slip]:
    """A line with a key and its value stands twice."""
    lines = text.split("\n")
    for key in of_file(text):
        index = key.node.place.line - 1
        one_line = isinstance(key.value, ScalarNode) and lines[index].strip().startswith(f"{key.node.text}:")
        if one_line and "{" not in lines[index]:
            wrong = [*lines[: index + 1], lines[index], *lines[index + 1 :]]
            yield Slip("twice", "\n".join(wrong), index + 2, key.node.place.column)


def in_references(text: str, chance: random.Random) -> Iterator[Slip]:
    """A tag misspelt in a list of the health model or in a condition."""
    for key in of_file(text):
        items = key.value.items if isinstance(key.value, ListNode) else [key.value]
        if key.node.text in ("context", "tags", "running_when", "active_when"):
            for item in items:
                if isinstance(item, ScalarNode) and item.plain and isinstance(item.value, str):
                    tag = item.text.split(" ")[0]
                    for wrong in {misspelt(tag, chance) for _ in range(4)} - {tag}:
                        if f"{tag}: {{" in text:
                            yield _at(item, "reference", put(text, item, tag, wrong), tag)


def layout(text: str, chance: random.Random) -> Iterator[Slip]:
    """A tab that indents, a space too many, a colon or a space after it that is missing."""
    lines = text.split("\n")
    for key in of_file(text):
        index, column = key.node.place.line - 1, key.node.place.column - 1
        line = lines[index]
        lead = line[:column]
        if lead.strip() or not lead or lines[index - 1].split("#")[0].rstrip().endswith(":"):
            continue
        tabbed = [*lines[:index], "\t" + line.lstrip(), *lines[index + 1 :]]
        yield Slip("tab", "\n".join(tabbed), index + 1, 1)
        if isinstance(key.value, ScalarNode) and "#" not in line and "{" not in line:
            glued = line.replace(": ", ":", 1)
            wrong = [*lines[:index], glued, *lines[index + 1 :]]
            yield Slip("space", "\n".join(wrong), index + 1, column + len(key.node.text) + 2)


KINDS: list[Callable[[str, random.Random], Iterator[Slip]]] = [
    in_keys, foreign, in_values, in_choices, twice, in_references, layout,
]  # fmt: skip


def judge(slip: Slip, folder: Path, rates: Rates) -> None:
    """Make the mistake, and compare what is said with what is known."""
    path = folder / "agent.yaml"
    path.write_text(slip.text, encoding="utf-8")
    said = [p for p in load(path, env={}).problems if p.severity == "error" or p.code == "W309"]
    what = f"{slip.kind} {slip.line}:{slip.column} {slip.text.splitlines()[slip.line - 1].strip()!r}"
    what += f" -> {[(p.line, p.column, p.code, p.message, p.hint) for p in said][:2]}"
    rates.slips += 1
    in_line = [p for p in said if p.line == slip.line]
    if not in_line:
        rates.line.append(what)
    there = [p for p in in_line if p.column == slip.column]
    if not there:
        rates.column.append(what)
    if slip.meant:
        rates.asked += 1
        if not any(meant in p.hint for p in in_line for meant in slip.meant):
            rates.suggestion.append(what)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_slips_are_pointed_at(
    kind: Callable[[str, random.Random], Iterator[Slip]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is always right, the column in 98 % and the suggestion in 95 % of the slips."""
    chance = random.Random(7)
    rates = Rates()
    (tmp_path / "secrets.yaml").write_text("mqtt: x\ninflux: y\nopcua_password: z\n")
    (tmp_path / "secrets.yaml").chmod(0o640)
    for file in FILES:
        slips = list(kind(file.read_text(encoding="utf-8"), chance))
        for slip in chance.sample(slips, min(len(slips), 25)):
            judge(slip, tmp_path, rates)
    with capsys.disabled():
        print(f"\n{kind.__name__}: {rates}", end=" ")
    assert rates.slips >= 20
    assert rates.line == []
    assert len(rates.column) <= 0.02 * rates.slips, rates.column
    assert len(rates.suggestion) <= 0.05 * rates.asked, rates.suggestion
