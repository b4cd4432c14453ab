"""Loading: YAML 1.2, includes, scan classes, limits, and what the models get."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.settings.load import Loaded, load, require
from edge_agent.settings.models import Configuration
from edge_agent.settings.nodes import plain
from edge_agent.settings.reading import MAX_BYTES, resolve
from edge_agent.settings.syntax import read
from tests.support.users import plain_user

MACHINE = """
  {name}:
    driver: modbus
    url: tcp://10.0.4.21:502
    tags:
      current: {{address: "holding:102", type: float32, unit: A}}
"""
PLANT = "site: ulsteinvik\nmachines:" + MACHINE.format(name="pump-1")


def write(tmp_path: Path, text: str, name: str = "agent.yaml") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def loaded(tmp_path: Path, text: str) -> Loaded:
    return load(write(tmp_path, text), env={})


def configuration(tmp_path: Path, text: str) -> Configuration:
    return require(write(tmp_path, text), env={})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("12:30:45", "12:30:45"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("true", True),
        ("-1.5e3", -1500.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("~", None),
        ("10.0.4.21", "10.0.4.21"),
        ("-", "-"),
        ("+.x", "+.x"),
    ],
)
def test_yaml_12(text: str, value: object) -> None:
    """Plain scalars are those of YAML 1.2: `no` and clock times are text."""
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merge_keys() -> None:
    """Settings may be shared with an anchor; what a mapping says itself goes first."""
    reading = read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n", "f")
    assert reading.root is not None
    assert plain(reading.root) == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2}}


def test_scan_classes_become_rates(tmp_path: Path) -> None:
    """`scan` of machine and tag is resolved; the three classes exist without being defined."""
    text = PLANT.replace("unit: A", "unit: A, scan: hourly").replace("    tags", "    scan: fast\n    tags")
    machine = configuration(tmp_path, f"scan_classes: {{hourly: 1h}}\n{text}").machines["pump-1"]
    assert machine.every == 0.25
    assert machine.rate_of(machine.tags["current"]) == 3600.0


def test_off_switches_parts_off(tmp_path: Path) -> None:
    """`web: off` and `health: off`."""
    plant = configuration(tmp_path, "web: off\n" + PLANT.replace("    tags", "    health: off\n    tags"))
    assert plant.web is False
    assert plant.machines["pump-1"].health is False


def test_includes_bring_machines(tmp_path: Path) -> None:
    """Included files add machines and scan classes, also through a second include; globs are relative."""
    write(tmp_path, "machines:" + MACHINE.format(name="pump-2"), "machines/a.yaml")
    write(tmp_path, "include: [deep/*.yaml]\nscan_classes: {hourly: 1h}\n", "machines/b.yaml")
    write(tmp_path, "machines:" + MACHINE.format(name="pump-3"), "machines/deep/c.yaml")
    plant = configuration(tmp_path, "include: [machines/*.yaml]\n" + PLANT)
    assert list(plant.machines) == ["pump-1", "pump-2", "pump-3"]
    assert plant.scan_classes["hourly"] == 3600.0


def test_includes_that_go_round(tmp_path: Path) -> None:
    """A file that includes itself, or its includer, is read once."""
    write(tmp_path, "include: [agent.yaml]\n", "more.yaml")
    assert configuration(tmp_path, "include: [more.yaml, agent.yaml]\n" + PLANT).site == "ulsteinvik"


def test_windows_line_ends_and_bom(tmp_path: Path) -> None:
    """A file saved on Windows reads the same."""
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PLANT.replace("\n", "\r\n").encode())
    assert require(path, env={}).site == "ulsteinvik"


def test_not_utf8_names_the_place(tmp_path: Path) -> None:
    """Another encoding is named with its line."""
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"site: a\narea: \xe6\n")
    (problem,) = load(path, env={}).problems
    assert (problem.line, problem.column, problem.code) == (2, 7, "E102")


def test_too_large(tmp_path: Path) -> None:
    """A file past the limit is not even parsed."""
    path = write(tmp_path, "# " + "x" * MAX_BYTES)
    (problem,) = load(path, env={}).problems
    assert problem.code == "E114"


def test_unreadable_file() -> None:
    """A file that may not be read is a problem like any other."""
    with plain_user() as folder:
        path = write(folder, PLANT)
        path.chmod(0)
        assert [problem.code for problem in load(path, env={}).problems] == ["E101"]


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a problem like any other."""
    (problem,) = load(tmp_path / "none.yaml", env={}).problems
    assert problem.code == "E101"
    assert "no such file" in problem.message


def test_require_raises_with_every_error(tmp_path: Path) -> None:
    """`require` raises one exception that holds all errors, and lets warnings pass."""
    path = write(tmp_path, PLANT + "sites: x\nline: a b\n")
    with pytest.raises(ConfigError) as caught:
        require(path, env={})
    assert [text.split(": ")[1] for text in caught.value.problems] == ["E104", "E111"]
    limit = PLANT.replace("unit: A", "unit: A, limits: {high: 26}")
    assert [p.code for p in loaded(tmp_path, limit).problems] == ["W302"]
    assert configuration(tmp_path, limit).site == "ulsteinvik"


def test_place_of_a_key(tmp_path: Path) -> None:
    """The command can point at a machine it could not reach."""
    place = loaded(tmp_path, PLANT).place("machines", "pump-1", "url")
    assert place is not None
    assert (place.line, place.column) == (5, 5)
    assert loaded(tmp_path, PLANT).place("machines", "pump-9", "url") is None


def test_nothing_is_guessed(tmp_path: Path) -> None:
    """Text is no number and a number is no truth, whatever pydantic would make of them."""
    text = PLANT.replace("    tags", "    unit_id: '1'\n    max_gap: true\n    tags")
    assert [(p.line, p.code) for p in loaded(tmp_path, text).problems] == [(6, "E107"), (7, "E107")]


@pytest.mark.parametrize("depth", [1000, 100_000])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int, opening: str) -> None:
    """However deep a file is nested, loading ends with a problem and not with the stack."""
    assert loaded(tmp_path, f"site: a\nmachines: {opening * depth}").configuration is None
