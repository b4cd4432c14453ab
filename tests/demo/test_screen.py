"""The demo's screen on terminals of several widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edge_agent.clock import Clock
from edge_agent.contracts.settings import MachineSettings
from edge_agent.demo.screen import Screen
from edge_agent.types import SampleBatch, Tag


@pytest.mark.parametrize("width", [80, 120])
def test_every_value_is_to_be_seen(width: int) -> None:
    """At 80 columns, too: the names are cut there, the values and units are not."""
    clock = Clock()
    screen = Screen(clock, clock.now(), lambda: "42 tags good")
    for machine in ("pump-1", "press-2"):
        names = ("bearing_acceleration", "flow")
        tags = [Tag(name, unit="l/min") for name in names]
        screen.add(machine, MachineSettings(driver="modbus", url="tcp://h:502"), tags)
        screen.batch(SampleBatch(machine, names, clock.now(), [-0.123, 43.9]))
    console = Console(file=io.StringIO(), width=width, height=30)
    console.print(screen.render(width))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("-0.123", "43.9", "l/min"):
        assert shown.count(text) >= 2, shown
    assert "bearing_ac" in shown
