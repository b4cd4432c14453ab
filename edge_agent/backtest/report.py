"""What a backtest found, for programs (JSON, scores as CSV) and for people."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from edge_agent.backtest.judging import Opening, Outcome
from edge_agent.backtest.table import text_file

SCORES = ("time", "score", "anomalous", "alert")


def write_scores(path: Path, outcome: Outcome) -> None:
    """Write a line for each row after the learning part; `time` is the file's own text, `nan` not judged."""
    stamps = outcome.recording.stamps[outcome.learned_rows :]
    with text_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SCORES)
        for stamp, verdict in zip(stamps, outcome.verdicts, strict=True):
            score = "nan" if math.isnan(verdict.score) else f"{verdict.score:.6g}"
            writer.writerow((stamp, score, int(verdict.anomalous), int(verdict.alert)))


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as INTERFACE.md writes it; times are the file's own texts."""
    stamps = outcome.recording.stamps
    return {
        "file": str(outcome.recording.path),
        "rows": len(stamps),
        "learned_rows": outcome.learned_rows,
        "state": outcome.state,
        "row_us": round(outcome.row_us, 1),
        "alerts": [_alert(outcome, opening) for opening in outcome.openings],
        "notices": [
            {
                "time": None if told.row is None else stamps[told.row],
                "kind": told.kind,
                "message": told.message,
            }
            for told in outcome.notices
        ],
    }


def _alert(outcome: Outcome, opening: Opening) -> dict[str, Any]:
    stamps, alert = outcome.recording.stamps, opening.alert
    return {
        "raised_at": stamps[opening.raised],
        "cleared_at": None if opening.cleared is None else stamps[opening.cleared],
        "severity": alert.priority.value,
        "message": alert.message,
        "contributions": [
            {"tag": tag, "share": round(share, 4)}
            for tag, share in sorted(alert.contributions.items(), key=lambda item: -item[1])
        ],
        "first_mover": alert.first_mover,
        "occurrence": alert.occurrence,
    }


def to_text(outcome: Outcome) -> str:
    """The outcome in some lines for a terminal."""
    stamps = outcome.recording.stamps
    judged = [verdict for verdict in outcome.verdicts if not math.isnan(verdict.score)]
    anomalous = sum(verdict.anomalous for verdict in outcome.verdicts)
    lines = [
        f"{outcome.recording.path}: {len(stamps)} rows, {outcome.learned_rows} learned from "
        f"({outcome.state}), {len(judged)} of {len(outcome.verdicts)} judged, {anomalous} anomalous, "
        f"{outcome.row_us:.0f} µs a row"
    ]
    for opening in outcome.openings:
        until = "still open" if opening.cleared is None else f"until {stamps[opening.cleared]}"
        lines.append(f"  alert at {stamps[opening.raised]}, {until}, {opening.alert.priority.value}:")
        lines.append(f"    {opening.alert.message}")
    if not outcome.openings:
        lines.append("  no alert")
    for told in outcome.notices:
        when = "" if told.row is None else f" at {stamps[told.row]}"
        lines.append(f"  {told.kind.replace('_', ' ')}{when}: {told.message}")
    return "\n".join(lines)
