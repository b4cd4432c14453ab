"""Warnings about the plant as a whole: each comes where its figure is passed, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.settings.check import check

RANGE = """\
machines:
  pump-{1..COUNT}:
    driver: modbus
    url: tcp://10.0.4.{n}:502
    tags: {TAGS}
"""


@pytest.mark.parametrize(("top", "count", "tags", "said"), [
    ("", 13, 3, []),
    ("", 14, 3, [(2, "W316")]),
    ("defaults: {all: {health: {false_alarms: 1 per year}}}\n", 14, 3, []),
    ("", 1, 150, []),
    ("", 1, 151, [(3, "W314")]),
    ("buffer: {max_age: 25h}\n", 1, 3, []),
    ("buffer: {max_age: 23h}\n", 1, 3, [(2, "W317")]),
])  # fmt: skip
def test_plant(top: str, count: int, tags: int, said: list[tuple[int, str]], tmp_path: Path) -> None:
    """False alarms beyond one a week, more than 150 fields, less than a day of buffer."""
    names = ", ".join(f'tag_{n}: {{address: "holding:{n}"}}' for n in range(tags))
    machines = RANGE.replace("COUNT", str(count)).replace("TAGS", names)
    (tmp_path / "agent.yaml").write_text(f"site: s\n{top}{machines}")
    found = check([tmp_path / "agent.yaml"], env={}).problems
    assert [(problem.line, problem.code) for problem in found] == said
