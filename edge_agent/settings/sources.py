"""The files of a configuration: the one that was named, and those it includes."""

from __future__ import annotations

from pathlib import Path

from edge_agent.settings import syntax
from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode
from edge_agent.settings.problems import Problem, at
from edge_agent.settings.reading import MAX_BYTES

MAX_FILES = 500
_NO_BREAKS = str.maketrans("\r\x85\u2028\u2029", "\n   ")
"""Signs that no editor counts as the end of a line, and that the scanner would."""
MERGED = ("machines", "scan_classes")
"""What several files may add to; every other key is set once."""


class Sources:
    """Reads files into one tree, and keeps their lines for messages."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.problems: list[Problem] = []
        self.repaired = False
        """Something could not be read: what seems to be missing may not be."""
        self.mended: set[tuple[str, int]] = set()
        """Files and lines that were not read as they stand."""
        self._seen: set[Path] = set()

    def read(self, path: Path) -> MapNode | None:
        """The mapping that `path` and the files it includes make up; None where there is none to speak of."""
        root = self.file(path, Place(str(path), 1, 1))
        if root is not None:
            self._include(root, path)
        return root

    def file(self, path: Path, wanted: Place) -> MapNode | None:
        """One file's mapping; `wanted` is where it was asked for."""
        self._seen.add(path.resolve())
        text = self.text(path, wanted)
        if text is None:
            self.repaired = True
            return None
        self.lines[str(path)] = text.split("\n")
        reading = syntax.read(text, str(path))
        self.problems += reading.problems
        self.mended |= {(str(path), line) for line in reading.mended}
        self.repaired |= reading.repaired or (reading.root is None and bool(reading.problems))
        return self._mapping(reading.root, path)

    def _mapping(self, root: Node | None, path: Path) -> MapNode | None:
        place = Place(str(path), 1, 1)
        if root is None or (isinstance(root, ScalarNode) and root.value is None):
            # An empty file is a mapping without keys: what is missing is said about it as about any other.
            return MapNode(place)
        if isinstance(root, MapNode):
            return root
        self.repaired = True
        hint = "begin with site: NAME"
        self.problems.append(at(root.place, "E107", "the file is not a mapping of keys to values", hint))
        return None

    def text(self, path: Path, wanted: Place) -> str | None:
        """The text of a file, line ends made one; `wanted` is where it was asked for."""
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.problems.append(at(wanted, "E101", f"{path} cannot be read: {reason}"))
            return None
        if len(content) > MAX_BYTES:
            self.problems.append(
                at(
                    wanted,
                    "E114",
                    f"{path} is larger than {MAX_BYTES // 1024**2} MiB",
                    "split it with include",
                )
            )
            return None
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start]
            place = Place(str(path), before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
            self.problems.append(at(place, "E102", "this is not UTF-8 text", "save the file as UTF-8"))
            return None
        return text.replace("\r\n", "\n").translate(_NO_BREAKS)

    def _include(self, root: MapNode, path: Path) -> None:
        entry = root.entries.get("include")
        if entry is None:
            return
        # What is wrong with the list itself is said when the models are checked.
        items = entry.value.items if isinstance(entry.value, ListNode) else [entry.value]
        for item in items:
            if isinstance(item, ScalarNode) and isinstance(item.value, str):
                self._include_pattern(root, path, item)

    def _include_pattern(self, root: MapNode, path: Path, pattern: ScalarNode) -> None:
        for found in self._matches(path, pattern):
            if found.resolve() in self._seen:
                continue
            if len(self._seen) >= MAX_FILES:
                self.problems.append(at(pattern.place, "E114", f"more than {MAX_FILES} files"))
                return
            included = self.file(found, pattern.place)
            if included is not None:
                self._include(included, found)
                self._merge(root, included)

    def _matches(self, path: Path, pattern: ScalarNode) -> list[Path]:
        text = pattern.value
        base = Path(text).parent if Path(text).is_absolute() else path.parent
        if not any(sign in text for sign in "*?["):
            return [path.parent / text]
        try:
            relative = Path(text).name if Path(text).is_absolute() else text
            matches = sorted(found for found in base.glob(relative) if found.is_file())
        except (ValueError, NotImplementedError) as error:
            self.problems.append(
                at(pattern.place, "E115", f"'{text}' is not a pattern of file names: {error}")
            )
            return []
        if not matches:
            hint = f"looked in {base}"
            self.problems.append(at(pattern.place, "W304", f"'{text}' matches no file", hint))
        return [found for found in matches if found.resolve() != path.resolve()]

    def _merge(self, root: MapNode, included: MapNode) -> None:
        for key, entry in included.entries.items():
            mine = root.entries.get(key)
            if key == "include":
                continue
            if mine is None:
                root.entries[key] = entry
            elif key in MERGED and isinstance(mine.value, MapNode) and isinstance(entry.value, MapNode):
                self._merge_named(key, mine.value, entry.value)
            elif key not in MERGED:
                hint = f"it is already in {_where(mine)}; keep one"
                self.problems.append(at(entry.key.place, "E115", f"'{key}' is set twice", hint))

    def _merge_named(self, key: str, mine: MapNode, theirs: MapNode) -> None:
        for name, entry in theirs.entries.items():
            first = mine.entries.get(name)
            if first is None:
                mine.entries[name] = entry
                continue
            code, what = ("E201", "machine") if key == "machines" else ("E105", "scan class")
            message = f"a {what} '{name}' is already in {_where(first)}"
            self.problems.append(at(entry.key.place, code, message, "names are unique in a site"))


def _where(entry: Entry) -> str:
    return f"{entry.key.place.file}:{entry.key.place.line}"
