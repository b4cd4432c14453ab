"""The JSON Schema and the validator: one verdict on what a single key may be, on thousands of files."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_agent.settings import syntax
from edge_agent.settings.load import load
from edge_agent.settings.nodes import plain
from edge_agent.settings.schema import schema

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/testcases"
FILES = [*sorted((ROOT / "config").glob("*.yaml")), *sorted((CASES / "valid").glob("*/agent.yaml"))]
OF_SHAPE = frozenset({"E104", "E106", "E107", "E108", "E109", "E110", "E111", "E112", "E118"})
"""Codes of what a schema can know: keys, kinds, words, ranges."""
SCHEMA = jsonschema.Draft7Validator(schema())
STRANGE: list[Any] = [
    None, True, False, 1, -1, 7, 0.5, 300, 70000, "", "text", "off", "5s", "0.5", "100ms", "2GiB", "a b",
    "ABCD",
    [], [1], [1, 2], ["a"], [0, 25], {}, {"a": 1}, {"value": 3}, {"name": "x"},
]  # fmt: skip


def tree(path: Path) -> Any:
    """A file as an editor sees it: the name of a secret is a text."""
    root = syntax.read(path.read_text(encoding="utf-8"), str(path)).root
    assert root is not None
    return plain(root)


def as_json(value: Any) -> Any:
    """With keys that are texts, as in JSON."""
    if isinstance(value, dict):
        return {str(key): as_json(below) for key, below in value.items()}
    return [as_json(below) for below in value] if isinstance(value, list) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield (*path, key)
        yield from places(below, (*path, key))


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy with one thing wrong, or merely different."""
    result = copy.deepcopy(value)
    *way, last = chance.choice(list(places(value)))
    parent = result
    for key in way:
        parent = parent[key]
    what = chance.choice(["replace", "replace", "replace", "drop", "rename", "add"])
    if what == "replace" or isinstance(parent, list):
        parent[last] = copy.deepcopy(chance.choice(STRANGE))
    elif what == "drop":
        del parent[last]
    elif what == "rename":
        parent[f"{last}x"] = parent.pop(last)
    else:
        key = chance.choice(
            ["label", "unit", "every", "limits", "health", "tags", "url", "range", "scan", "web"]
        )
        parent.setdefault(key, copy.deepcopy(chance.choice(STRANGE)))
    return result


def verdicts(value: Any, folder: Path) -> tuple[list[str], list[str]]:
    """What the schema says, and the errors of `check`."""
    path = folder / "agent.yaml"
    # A key that is a number has no quotes in YAML.
    path.write_text(re.sub(r'"(\d+)": ', r"\1: ", json.dumps(value)), encoding="utf-8")
    problems = [p for p in load(path, env={}).problems if p.severity == "error"]
    said = [f"{error.json_path}: {error.message[:200]}" for error in SCHEMA.iter_errors(as_json(value))]
    return said, [str(problem) for problem in problems]


def beyond(line: str, value: Any) -> bool:
    """What a schema cannot know: what a profile might bring, and two words for one key."""
    machines = value.get("machines")
    profiled = isinstance(machines, dict) and any("profile" in str(machine) for machine in machines.values())
    empty_name = "E111: 'bits' cannot be the text ''" in line
    return empty_name or ("E106" in line and profiled) or "unknown key 'unit'; did you mean 'unit'?" in line


def test_is_a_schema_that_editors_know() -> None:
    """Draft 7, with a description for nearly every key of every driver."""
    made = schema()
    jsonschema.Draft7Validator.check_schema(made)
    bare = [
        f"{name}.{key}"
        for name, part in [("top", made), *made["definitions"].items()]
        for key, value in part.get("properties", {}).items()
        if "description" not in json.dumps(value) and "$ref" not in json.dumps(value)
    ]
    assert len(bare) <= 5, bare


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_valid_files_are_valid(path: Path) -> None:
    """What `check` accepts has no red line in an editor."""
    assert [error.message for error in SCHEMA.iter_errors(as_json(tree(path)))] == []


@pytest.mark.parametrize("seed", range(8))
def test_same_verdict(seed: int, tmp_path: Path) -> None:
    """4,000 mutations: what the schema refuses `check` refuses, and back where a schema can know."""
    chance = random.Random(seed)
    values = [tree(path) for path in FILES]
    (tmp_path / "secrets.yaml").touch(0o640)
    wrong: list[Any] = []
    refused = 0
    for _ in range(500):
        value = mutated(chance.choice(values), chance)
        by_schema, said = verdicts(value, tmp_path)
        of_shape = [line for line in said if line.split(": ")[1] in OF_SHAPE and not beyond(line, value)]
        refused += bool(by_schema)
        if (by_schema and not said) or (of_shape and not by_schema):
            wrong.append((by_schema[:1], said[:2]))
    assert wrong == []
    assert refused >= 200


def test_golden_mistakes_of_one_key(tmp_path: Path) -> None:
    """A golden mistake in a key or word is one for an editor as well."""
    missed = []
    seen = 0
    for case in sorted((CASES / "check").iterdir()):
        expected = (case / "expected.txt").read_text(encoding="utf-8").splitlines()
        codes = {line.split(": ")[1][:4] for line in expected if line.startswith("agent.yaml:")}
        if not codes & {"E104", "E108"} or case.name.startswith(("syntax", "list", "range-wrong", "profile")):
            continue
        seen += 1
        if SCHEMA.is_valid(as_json(tree(case / "agent.yaml"))):
            missed.append(case.name)
    assert seen >= 40
    assert missed == []


def test_command(tmp_path: Path) -> None:
    """`schema` prints the schema, or writes it and says the line for the editor."""
    run = [sys.executable, "-m", "edge_agent", "schema"]
    printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed)["title"] == "edge-agent configuration"
    out = tmp_path / "s.json"
    told = subprocess.run([*run, "--out", str(out)], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.read_text()) == json.loads(printed)
    assert "yaml-language-server" in told
