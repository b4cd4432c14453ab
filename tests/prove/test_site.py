"""Real processes under faults, for as long as each change can afford; `make prove` takes its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prove import chaos, network, said, soak
from tests.prove.site import SPARED, STRUCK, Site

CHAOS, SOAK = 25.0, 25.0
"""Seconds."""
LATE = 0.5
"""Seconds; on a quiet machine it is a hundredth, on a busy one of two cores some tenths."""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_chaos_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes killed and frozen, a bad line, a full disk: nothing lost, made up or uncounted; it heals."""
    report = chaos.campaign(tmp_path, CHAOS, seed=1)
    with capsys.disabled():
        print(f"\nchaos: {report.faults.total()} faults, healed in {report.heal:.1f} s {report.skipped}")
    assert not any(report.verdict.found.values()), report.verdict.problems
    assert report.verdict.acknowledged > 100
    assert report.faults.total() > 10
    assert report.heal < 60, "with the broker's back-off of 15 s"
    assert report.late < LATE, "the other machine is not late"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_soak_grows_nothing(tmp_path: Path) -> None:
    """Machine, broker and historian go and come: memory, descriptors and tasks stay as they are."""
    report = soak.campaign(tmp_path, SOAK)
    assert not any(report.found.values()), (report.verdict.problems, report.samples)
    assert report.rounds >= 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_network_that_fails_below_the_sockets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Interface down and up, 30 % of the packets lost, a machine half open: nothing lost, and it heals."""
    if why := network.why_not():
        with capsys.disabled():
            print(f"\nnetwork faults are skipped: {why}")
        pytest.skip(why)
    report = network.campaign(tmp_path, long=False)
    assert not any(report.verdict.found.values()), report.verdict.problems
    assert max(report.heal.values()) < 20, report.heal


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_machine_that_goes_away_is_said_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within seconds the alarm's topic, the metric and one line in the log say it; the other goes on."""
    with Site(tmp_path) as site:
        site.agent.start()
        for machine in (SPARED, STRUCK):
            site.flowing(machine)
        told = said.cut(site)
        verdict = site.verdict()
    assert not any(verdict.found.values()), verdict.problems
    with capsys.disabled():
        print(f"\nsaid: {', '.join(f'{where} after {seconds:.1f} s' for where, seconds in told.items())}")
    assert max(told.values()) < 2 * said.SOON, told
