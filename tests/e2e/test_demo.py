"""`edge-agent demo` as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run_demo(command: list[str], folder: Path, seconds: int = 60) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON document, and what was said on standard error."""
    truth = folder / "truth.jsonl"
    result = subprocess.run(
        [*command, "demo", "--headless", "--seconds", str(seconds), "--json", "--truth", str(truth)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        cwd=folder,
    )
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout), result.stderr


def truth_tags(folder: Path, machine: str, event: str = "breakdown") -> set[str]:
    """The tags that the truth log says a machine's fault moves."""
    events = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    found = [e["tags"] for e in events if (e["machine"], e["event"]) == (machine, event)]
    assert found, events
    return set(found[0])


def check_story(code: int, document: dict[str, Any], folder: Path) -> None:
    """The wearing pump is caught in time, by a tag that moves; nothing is lost; nobody else is accused."""
    assert code == 0
    assert document["lost"] == 0
    assert document["readings"] > 10_000
    assert document["wall_s"] <= 60
    failure = document["failure"]
    assert failure["machine"] == "pump-1"
    warnings = [alert for alert in document["alerts"] if alert["machine"] == "pump-1"]
    assert warnings[0]["raised_at"] > failure["onset"], "no alert before the fault began"
    assert warnings[0]["raised_at"] < failure["at"]
    assert document["lead_time_s"] > 86_400, "at least a day of warning"
    assert warnings[0]["contributions"][0]["tag"] in truth_tags(folder, "pump-1")
    assert warnings[0]["action"]
    assert not [alert for alert in document["alerts"] if alert["machine"] == "press-2"], (
        "a hot day is no alert"
    )
    stuck = [fault["message"] for fault in document["sensor_faults"] if fault["machine"] == "press-2"]
    assert any("case_drain_flow" in message for message in stuck), "the stuck sensor is called a sensor"


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.alone
def test_the_demo_tells_its_story(tmp_path: Path) -> None:
    """Within 60 s: 0 lost, the alert on the wearing pump before it fails, a quiet press, a named sensor."""
    code, document, _ = run_demo([sys.executable, "-m", "edge_agent"], tmp_path)
    check_story(code, document, tmp_path)
