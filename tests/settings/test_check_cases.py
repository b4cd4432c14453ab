"""Golden mistakes: every folder of tests/testcases/check, and that what is valid stays valid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.settings.check import check
from edge_agent.settings.load import load

CASES = Path(__file__).parents[1] / "testcases"
MISTAKES = sorted(path.name for path in (CASES / "check").iterdir() if path.is_dir())
VALID = sorted(path.name for path in (CASES / "valid").iterdir() if path.is_dir())


def enter(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a copy of a case; git keeps neither secrets.yaml nor the mode that it must have."""
    folder = tmp_path / "case"
    shutil.copytree(case, folder)
    for secrets in folder.rglob("secrets.yaml.example"):
        secrets.chmod(0o640)
        secrets.rename(secrets.with_suffix(""))
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mistake is named, at its line and column, with its code and the way out, and nothing else is."""
    enter(CASES / "check" / case, tmp_path, monkeypatch)
    expected = Path("expected.txt").read_text(encoding="utf-8").splitlines()
    loaded = load("agent.yaml", env={})
    said = [str(problem) for problem in loaded.problems]
    assert [line[: len(begin)] for line, begin in zip(said, expected, strict=False)] == expected
    assert len(said) == len(expected), said
    assert (loaded.configuration is None) == bool(loaded.errors)


@pytest.mark.parametrize("case", MISTAKES)
def test_caret_stands_in_the_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem points into a line that is there, not beyond its end."""
    enter(CASES / "check" / case, tmp_path, monkeypatch)
    loaded = load("agent.yaml", env={})
    for problem in loaded.problems:
        lines = loaded.lines.get(problem.file) or Path(problem.file).read_text(encoding="utf-8").split("\n")
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


@pytest.mark.parametrize("case", VALID)
def test_valid(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What worked keeps working: the sample of the interface among it."""
    enter(CASES / "valid" / case, tmp_path, monkeypatch)
    result = check(["agent.yaml"], env={})
    assert [str(problem) for problem in result.problems if problem.severity == "error"] == []
    assert result.exit_code == 0


def test_enough_mistakes() -> None:
    """There are mistakes of every kind."""
    assert len(MISTAKES) >= 150
