"""The generated reference: complete, and not older than what it was generated from."""

from __future__ import annotations

import runpy
from pathlib import Path

from edge_agent.settings.explained import EXPLAINED, PAGE, anchor
from edge_agent.settings.problems import CODES

ROOT = Path(__file__).parents[2]


def test_every_code_is_explained() -> None:
    """A code has an explanation, in the order of the table, under the anchor that messages name."""
    assert list(EXPLAINED) == list(CODES)
    headings = {line[3:].lower() for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("## ")}
    assert {anchor(code) for code in CODES} == {f"{PAGE}#{heading}" for heading in headings}


def test_pages_are_not_stale() -> None:
    """What stands in docs/reference is what `python docs/generate.py` would write."""
    for path, text in runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/generate.py"
