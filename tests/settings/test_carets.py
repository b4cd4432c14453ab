"""The place of a problem and the caret below its line, in every kind of file that editors leave behind."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from edge_agent.settings.load import load
from edge_agent.settings.problems import Problem, snippet

PLANT = """site: ulsteinvik
machines:
  pump-1:
    driver: modbus
    url: tcp://10.0.4.21:502
    tags:
      current: {address: "holding:102", label: LABEL, WRONG: 1}
"""


def found(folder: Path, content: bytes) -> tuple[Problem, str, str]:
    """The one problem of a file, the line that is shown and the line with the caret."""
    path = folder / "agent.yaml"
    path.write_bytes(content)
    loaded = load(path, env={})
    (problem,) = loaded.problems
    line, caret = snippet(problem, loaded.lines, indent="").split("\n")
    return problem, line, caret


def cells(text: str) -> int:
    """How wide a terminal shows a text."""
    return sum(
        0 if unicodedata.combining(s) else 2 if unicodedata.east_asian_width(s) in "WF" else 1 for s in text
    )


@pytest.mark.parametrize("label", [
    "plain", "Kühlung", "ポンプ一号", "e\u0301te\u0301", "a\u2028b", "a\x85b",
    "'tab\there'", "x" * 500, "'" + "y, " * 300 + "'",
])  # fmt: skip
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_caret_stands_below_the_key(label: str, ends: str, start: bytes, tmp_path: Path) -> None:
    """Line and column are those of an editor, and the caret is right below the key on a terminal."""
    text = PLANT.replace("LABEL", label).replace("WRONG", "lable")
    problem, line, caret = found(tmp_path, start + text.replace("\n", ends).encode())
    assert (problem.line, problem.code) == (7, "E104")
    assert problem.column == text.split("\n")[6].index("lable") + 1
    position = line.index("lable")
    assert cells(caret[:-1]) == cells(line[:position])
    assert caret.count("\t") == line[:position].count("\t")
    assert len(line) <= 160


def test_a_sign_that_steers_terminals_is_not_shown(tmp_path: Path) -> None:
    """An escape sequence in a file does not reach the terminal."""
    problem, line, _ = found(tmp_path, PLANT.replace("LABEL", "\x1b[31m").replace("WRONG", "unit").encode())
    assert (problem.line, problem.code) == (7, "E102")
    assert "\x1b" not in line + str(problem)


def test_an_included_file_is_named(tmp_path: Path) -> None:
    """A problem of an included file names that file, and its line is shown."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/pumps.yaml").write_text(
        "machines:\n  pump-2: {driver: modbus, url: 'tcp://10.0.0.2:502', tgs: {}}\n"
    )
    path = tmp_path / "agent.yaml"
    path.write_text(PLANT.replace("LABEL", "x").replace("WRONG: 1", "unit: A") + "include: [more/*.yaml]\n")
    loaded = load(path, env={})
    problem = next(p for p in loaded.problems if p.code == "E104")
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / "more/pumps.yaml"), 2, 55)
    assert "tgs" in snippet(problem, loaded.lines)
