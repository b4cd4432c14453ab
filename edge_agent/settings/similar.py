"""A machine with braces in its name stands for many: `pump-{1..12}`, or one for each line `from: FILE.csv`.

`{n}`, or the name of a column, is replaced in its texts, and that is all: there are no expressions. What has
no braces in it is shared by all of them, not copied.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import registry
from edge_agent.errors import EdgeAgentError
from edge_agent.settings import shape, table
from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode, text_of
from edge_agent.settings.problems import Problem, at, did_you_mean
from edge_agent.settings.reading import resolve
from edge_agent.settings.sources import Sources
from edge_agent.settings.table import Cell
from edge_agent.settings.wording import found

NUMBER = "n"
"""What stands for the number of a range."""
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_HOLE = re.compile(r"(?<!\$)\{([^{}]*)\}")
Row = Mapping[str, Cell]


@dataclass(slots=True)
class Origins:
    """Where the values of similar machines come from, to say once what is wrong with all of them."""

    shared: set[Place] = field(default_factory=set)
    """Places that several machines have in common."""
    templates: dict[Place, tuple[Place, int]] = field(default_factory=dict)
    """The place of a cell -> where it was put in, and how many machines are made there."""

    def once(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems, where every machine of a kind has the same one only the first, at its origin."""
        problems = list(problems)
        groups: dict[tuple[Place, str], set[Place]] = defaultdict(set)
        for problem in problems:
            place = _place(problem)
            if place in self.templates:
                groups[self.templates[place][0], problem.code].add(place)
        seen: Counter[tuple[Place, str]] = Counter()
        kept = []
        for problem in problems:
            place = _place(problem)
            origin, count = self.templates.get(place, (place, 0))
            if 1 < count == len(groups[origin, problem.code]):
                problem = at(origin, problem.code, problem.message, problem.hint)
            elif place not in self.shared:
                kept.append(problem)
                continue
            seen[origin, problem.code] += 1
            if seen[origin, problem.code] == 1:
                kept.append(problem)
        return kept


def _place(problem: Problem) -> Place:
    return Place(problem.file, problem.line, problem.column)


def expand(root: MapNode, sources: Sources, origins: Origins, *, chosen: bool = False) -> None:
    """Put the machines that are meant in the place of each with braces in its name.

    With `chosen` only those whose profile or driver comes from a column: the others get theirs before, once.
    """
    machines = root.get("machines")
    if not isinstance(machines, MapNode):
        return
    made: dict[str, Entry] = {n: e for n, e in machines.entries.items() if not _is_template(n, e)}
    ordered: dict[str, Entry] = {}
    for name, entry in machines.entries.items():
        if name in made or (chosen and not _chooses(entry.value)):
            ordered[name] = entry
        else:
            for one in _Template(name, entry, sources, origins).machines():
                _add(one, made, ordered, sources)
    machines.entries = ordered


def _add(one: Entry, made: dict[str, Entry], ordered: dict[str, Entry], sources: Sources) -> None:
    name = one.key.text
    first = made.setdefault(name, one)
    if first is one:
        ordered[name] = one
        return
    message = f"a machine '{name}' is already in {first.key.place.file}:{first.key.place.line}"
    sources.problems.append(at(one.key.place, "E201", message, "names are unique in a site"))


def _is_template(name: str, entry: Entry) -> bool:
    node = entry.value
    return isinstance(node, MapNode) and ("{" in name or "from" in node.entries)


def _chooses(node: Node) -> bool:
    values = (text_of(node.get(key)) for key in ("profile", "driver")) if isinstance(node, MapNode) else ()
    return any(value and _HOLE.search(value) for value in values)


class _Template:
    """One machine that stands for many."""

    def __init__(self, name: str, entry: Entry, sources: Sources, origins: Origins) -> None:
        self.name, self.entry, self.sources, self.origins = name, entry, sources, origins
        self.node = entry.value if isinstance(entry.value, MapNode) else MapNode(entry.key.place)
        self.columns: list[str] = []
        self.count = 0
        self.problems: list[Problem] = []
        self.holed = False
        """The machine in the making lacks a cell that it needs."""
        self._model = _model(self.node)
        self._holes: dict[int, bool] = {}
        self._text: dict[tuple[str, ...], bool] = {}

    def machines(self) -> list[Entry]:
        """The machines, none where the template cannot be used."""
        source = self.node.entries.get("from")
        rows = self._listed(source) if source else self._numbered()
        self.count = len(rows or ())
        if rows is None:
            # What seems to be missing is only not made.
            self.sources.repaired = True
            return []
        made = [self._machine(row) for row in rows]
        self.sources.problems += dict.fromkeys(self.problems)
        return [one for one in made if one is not None]

    def _listed(self, source: Entry) -> list[Row] | None:
        file = text_of(source.value)
        if file is None:
            message = f"'from' is the name of a CSV file, not {found(source.value)}"
            self._refuse(source.value.place, "E107", message, "write from: machines.csv")
            return None
        read = table.read(Path(source.value.place.file).parent / file, source.value.place, self.sources)
        if read is None:
            return None
        self.columns = read.columns
        if not any(match[1] in self.columns for match in _HOLE.finditer(self.name)):
            column = f"{{{self.columns[0]}}}"
            hint = f'write "{column}":' if self.name.startswith("{") else f"write {self.name}-{column}:"
            unknown = _HOLE.search(self.name)
            message = f"every machine of {file} would be named '{self.name}'"
            if unknown:
                message, hint = f"{file} has no column '{unknown[1]}'", self._columns(unknown[1])
            self._refuse(self.entry.key.place, "E123", message, hint)
            return None
        return list(read.rows)

    def _numbered(self) -> list[Row] | None:
        place = self.entry.key.place
        match = _RANGE.search(self.name)
        if match is None or len(_HOLE.findall(self.name)) != 1:
            hint = "write NAME-{1..12} for a range of numbers, or add from: FILE.csv for a list"
            self._refuse(place, "E123", f"the braces in '{self.name}' stand for nothing", hint)
            return None
        first, last = int(match[1]), int(match[2])
        if not first <= last < first + table.MAX_ROWS:
            hint = f"it goes upwards, by at most {table.MAX_ROWS}"
            self._refuse(place, "E123", f"{match[0]} is no range of machines", hint)
            return None
        self.columns = [NUMBER]
        self.name = self.name.replace(match[0], f"{{{NUMBER}}}")
        width = len(match[1]) if match[1].startswith("0") else 1
        return [{NUMBER: Cell(f"{number:0{width}}", place)} for number in range(first, last + 1)]

    def _refuse(self, place: Place, code: str, message: str, hint: str) -> None:
        self.sources.problems.append(at(place, code, message, hint))

    def _machine(self, row: Row) -> Entry | None:
        key, self.holed = self.entry.key, False
        named = self._scalar(ScalarNode(key.place, 1, self.name, False, None, self.name), row, ())
        node = MapNode(self.node.place, self.node.size)
        for name, entry in self.node.entries.items():
            if name != "from" and (value := self._filled(entry.value, row, (name,))) is not None:
                node.entries[name] = Entry(entry.key, value)
        if named is None or self.holed:
            return None
        self.origins.shared |= {key.place, self.node.place, *(e.key.place for e in node.entries.values())}
        return Entry(named, node)

    def _filled(self, node: Node, row: Row, path: tuple[str, ...]) -> Node | None:
        """The node for one machine; None where it is left out, because its cell is empty."""
        if not self._has_hole(node):
            return node
        if isinstance(node, ScalarNode):
            return self._scalar(node, row, path)
        if isinstance(node, ListNode):
            items = [self._filled(item, row, (*path, "0")) for item in node.items]
            return ListNode(node.place, node.size, [item for item in items if item is not None])
        if isinstance(node, MapNode):
            if (bare := self._bare(node)) is not None:
                return self._scalar(bare, row, path)
            result = MapNode(node.place, node.size)
            for key, entry in node.entries.items():
                if (value := self._filled(entry.value, row, (*path, key))) is not None:
                    result.entries[key] = Entry(entry.key, value)
            return result
        return node

    def _has_hole(self, node: Node) -> bool:
        known = self._holes.get(id(node))
        if known is None:
            if isinstance(node, ScalarNode):
                known = isinstance(node.value, str) and _HOLE.search(node.text) is not None
            elif isinstance(node, ListNode):
                # All of them, not only up to the first: each may be shared.
                below = [self._has_hole(item) for item in node.items]
                known = any(below)
            elif isinstance(node, MapNode):
                below = [self._has_hole(entry.value) for entry in node.entries.values()]
                known = any(below) or self._bare(node) is not None
            self._holes[id(node)] = known = bool(known)
            if not known:
                self.origins.shared.add(node.place)
        return known

    def _bare(self, node: MapNode) -> ScalarNode | None:
        """`unit_id: {unit}` without quotes is a mapping to YAML: say so, and read it as it was meant."""
        if len(node.entries) != 1:
            return None
        ((key, entry),) = node.entries.items()
        if key not in self.columns or not isinstance(entry.value, ScalarNode) or entry.value.text:
            return None
        self.problems.append(at(node.place, "E123", f"{{{key}}} needs quotes", f'write "{{{key}}}"'))
        return ScalarNode(node.place, 1, f"{{{key}}}", False, None, f"{{{key}}}")

    def _scalar(self, node: ScalarNode, row: Row, path: tuple[str, ...]) -> ScalarNode | None:
        """The text with its braces filled in; alone in it, a cell that is a number is a number."""
        whole = _HOLE.fullmatch(node.text)
        place = node.place
        empty = False

        def put_in(match: re.Match[str]) -> str:
            nonlocal place, empty
            cell = row.get(match[1])
            if cell is None:
                self._no_column(node, match)
                empty = self.sources.repaired = True
                return ""
            if place is node.place and NUMBER not in row:
                place = cell.place
                self.origins.templates[place] = (node.place, self.count)
            empty |= not cell.text
            if not cell.text and (whole is None or not path):
                self.holed = True
                hint = "only a key whose value is this cell alone is left out"
                self.sources.problems.append(at(cell.place, "E124", f"'{match[1]}' is empty", hint))
            return cell.text

        text = _HOLE.sub(put_in, node.text)
        if empty:
            return None
        if NUMBER in row:
            self.origins.shared.add(place)
        value = resolve(text) if whole and node.tag is None and not self._takes_text(path) else text
        return ScalarNode(place, 1, text, bool(whole), node.tag, value)

    def _no_column(self, node: ScalarNode, match: re.Match[str]) -> None:
        file, line, column = node.place
        place = Place(file, line, column + match.start() + (0 if node.plain else 1))
        self.problems.append(at(place, "E123", f"{match[0]} stands for nothing", self._columns(match[1])))

    def _columns(self, name: str) -> str:
        known = ", ".join(f"{{{column}}}" for column in self.columns)
        return did_you_mean(name, self.columns) or f"there is {known}"

    def _takes_text(self, path: tuple[str, ...]) -> bool:
        if path not in self._text:
            self._text[path] = self._model is not None and shape.takes_only_text(self._model, path)
        return self._text[path]


def _model(node: MapNode) -> shape.Model | None:
    try:
        return registry.driver_settings(text_of(node.get("driver")) or next(iter(registry.PROFILES)))
    except EdgeAgentError:
        # Said where the machine is built.
        return None
