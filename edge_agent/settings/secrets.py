"""Passwords and tokens: `!secret name`, `${VAR}`, and keeping them out of every message."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from edge_agent.settings import syntax
from edge_agent.settings.nodes import MapNode, Place, ScalarNode, scalars
from edge_agent.settings.problems import Problem, at, did_you_mean

FILE = "secrets.yaml"
_MODE = 0o640
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class Secrets:
    """Puts the values of secrets and variables into a tree, and says which could not be found."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.problems: list[Problem] = []
        self._files: dict[Path, MapNode | None] = {}

    def fill(self, root: MapNode, secret_keys: frozenset[str]) -> None:
        """Resolve every `!secret` and `${VAR}` below `root`; literals in secret fields are warned of."""
        for path, node in scalars(root):
            secret = bool(path) and path[-1] in secret_keys
            if node.tag == "!secret":
                self._secret(node)
            elif node.secret:
                # A mapping that an alias repeats is walked once for each place it stands at.
                continue
            elif isinstance(node.value, str) and _VARIABLE.search(node.value):
                self._variable(node, secret=secret)
            elif secret and isinstance(node.value, str) and node.value:
                node.secret = True
                hint = f"write {path[-1]}: !secret {path[-1]} and put it into {FILE}"
                self.problems.append(at(node.place, "W303", f"{path[-1]} in plain text", hint))

    def _variable(self, node: ScalarNode, *, secret: bool) -> None:
        match = _VARIABLE.fullmatch(str(node.value))
        if match is None or not secret:
            hint = "it may only be the whole value of a password or token"
            self.problems.append(at(node.place, "E117", "${...} does not work here", hint))
        elif match[1] not in self.env:
            self.problems.append(at(node.place, "E117", f"the environment has no variable {match[1]}"))
        else:
            node.value = self.env[match[1]]
        node.secret = True

    def _secret(self, node: ScalarNode) -> None:
        name = node.text.strip()
        node.secret, node.value = True, ""
        if not _NAME.fullmatch(name):
            self.problems.append(at(node.place, "E116", "!secret is followed by a name", "e.g. !secret mqtt"))
            return
        folders = dict.fromkeys((Path(node.place.file).parent, self.folder))
        known: list[str] = []
        for folder in folders:
            entries = self._file(folder / FILE)
            found = entries.get(name) if entries else None
            if isinstance(found, ScalarNode):
                node.value = found.text
                return
            known += list(entries.entries) if entries else []
        self._credential(node, name, known)

    def _credential(self, node: ScalarNode, name: str, known: list[str]) -> None:
        folder = self.env.get("CREDENTIALS_DIRECTORY")
        if folder:
            try:
                node.value = (Path(folder) / name).read_text(encoding="utf-8").rstrip("\r\n")
            except FileNotFoundError:
                known += sorted(path.name for path in Path(folder).glob("*"))
            except (OSError, UnicodeDecodeError):
                self.problems.append(at(node.place, "E116", f"the credential '{name}' cannot be read"))
                return
            else:
                return
        hint = did_you_mean(name, known) or f"add a line '{name}: ...' to {self.folder / FILE}"
        self.problems.append(at(node.place, "E116", f"there is no secret '{name}'", hint))

    def _file(self, path: Path) -> MapNode | None:
        if path not in self._files:
            self._files[path] = self._read(path)
        return self._files[path]

    def _read(self, path: Path) -> MapNode | None:
        place = Place(str(path), 1, 1)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & ~_MODE:
                hint = f"chmod 640 {path}"
                self.problems.append(at(place, "E116", f"others may read it (mode {mode:o})", hint))
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            self.problems.append(at(place, "E116", f"cannot be read: {str(reason).lower()}"))
            return None
        reading = syntax.read(text, str(path))
        # Messages about this file's text could quote it: only their place is told.
        self.problems += [
            Problem(p.file, p.line, p.column, p.code, "this line cannot be read") for p in reading.problems
        ]
        return reading.root if isinstance(reading.root, MapNode) else None
