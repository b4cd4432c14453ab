"""The demo's ledger, truth and result, without running it."""

from __future__ import annotations

import json
from pathlib import Path

from edge_agent.clock import SECOND, iso, parse_iso
from edge_agent.demo.ledger import Ledger
from edge_agent.demo.result import Result
from edge_agent.demo.truth import Failure, first_failure, read_events
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Reason, SampleBatch, bad

DAY = 86_400 * SECOND
START = parse_iso("2026-03-02T00:00:00Z")


def alert(machine: str, at: int, kind: AlarmKind = AlarmKind.HEALTH) -> Alert:
    return Alert(
        machine=machine, id="health", kind=kind, priority=AlarmPriority.MEDIUM,
        state=AlarmState.UNACKNOWLEDGED, occurrence=1, raised_at=at, cleared_at=None,
        message="is outside its normal", action="Look", contributions={"a": 0.3, "b": 0.7},
    )  # fmt: skip


def result(*alerts: Alert, failure: Failure | None) -> Result:
    return Result(100, 0, ("pump-1", "press-2"), alerts, failure, 20 * 86_400, 50.0)


FAILURE = Failure("pump-1", "bearing_wear", START + 9 * DAY, START + 19 * DAY, ("bearing_vibration",))


def test_a_warning_must_be_on_the_failing_machine_and_before_its_failure() -> None:
    """An alert on another machine, or after the breakdown, is no warning."""
    assert result(alert("press-2", START + 12 * DAY), failure=FAILURE).warning is None
    assert result(alert("pump-1", START + 20 * DAY), failure=FAILURE).warning is None
    good = result(alert("pump-1", START + 14 * DAY), failure=FAILURE)
    assert good.warning is not None
    assert good.lead_time_s == 5 * 86_400


def test_the_document_has_the_names_of_the_interface() -> None:
    """readings, lost, machines, alerts, failure, lead_time_s and wall_s, with simulated ISO times."""
    document = result(alert("pump-1", START + 14 * DAY), failure=FAILURE).as_json()
    assert document["readings"] == 100
    assert document["machines"] == ["pump-1", "press-2"]
    assert document["alerts"][0]["raised_at"] == "2026-03-16T00:00:00.000Z"
    assert document["alerts"][0]["contributions"][0] == {"tag": "b", "share": 0.7}
    assert document["failure"]["at"] == iso(FAILURE.at)
    assert document["failure"]["tags"] == ["bearing_vibration"]


def test_lost_values_are_counted_one_by_one() -> None:
    """A good committed value that the historian does not hold is lost; bad and missing ones never count."""
    ledger = Ledger()
    for at in (1, 2, 3):
        ledger.committed(SampleBatch("m", ("a", "b"), at, [1.0, None], {1: bad(Reason.TIMEOUT)}))
    assert ledger.readings == 3
    assert ledger.lost(lambda _machine: [("a", at) for at in (1, 2, 3, 4)]) == 0
    assert ledger.lost(lambda _machine: [("a", 1), ("a", 3), ("b", 2)]) == 1
    assert ledger.lost(lambda _machine: []) == 3


def test_truth_is_read_while_it_is_written(tmp_path: Path) -> None:
    """A half-written last line waits; a breakdown is found with the onset of its own fault."""
    path = tmp_path / "truth.jsonl"
    assert read_events(path) == []
    events = [
        ("2026-03-11", "pump-1", "bearing_wear", "onset", "a"),
        ("2026-03-12", "press-2", "sensor_stuck", "onset", "b"),
        ("2026-03-21", "pump-1", "bearing_wear", "breakdown", "a"),
    ]
    lines = [
        json.dumps({"t": f"{day}T00:00:00Z", "machine": m, "fault": f, "event": e, "tags": [tag]})
        for day, m, f, e, tag in events
    ]
    path.write_text("\n".join([*lines, '{"t": "2026-']))
    failure = first_failure(read_events(path))
    assert failure == Failure(
        "pump-1", "bearing_wear", parse_iso("2026-03-11T00:00:00Z"), parse_iso("2026-03-21T00:00:00Z"), ("a",)
    )
