"""An alert as JSON: what is published on `ROOT/MACHINE/alarms/ID` and printed by `--json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge_agent.clock import iso
from edge_agent.types import Alert, Band


def alert_json(alert: Alert) -> dict[str, Any]:
    """The full state of a condition in JSON's own types; times are ISO 8601 with Z.

    A condition that was never raised (it is only suppressed) has null for its times. What JSON has no number
    for (NaN, infinity) is null.
    """
    return {
        "machine": alert.machine,
        "id": alert.id,
        "kind": alert.kind.value,
        "priority": alert.priority.value,
        "state": alert.state.value,
        "active": alert.active,
        "occurrence": alert.occurrence,
        "since": _time(alert.since),
        "raised_at": _time(alert.raised_at if alert.occurrence else None),
        "cleared_at": _time(alert.cleared_at if alert.occurrence else None),
        "message": alert.message,
        "action": alert.action,
        "value": _number(alert.value),
        "contributions": contributions_json(alert.contributions),
        "bands": {tag: _band(band) for tag, band in alert.bands.items()},
        "first_mover": alert.first_mover,
        "maintenance": alert.maintenance,
        "source": alert.source,
    }


def contributions_json(contributions: Mapping[str, float]) -> list[dict[str, Any]]:
    """Shares per tag, the largest first."""
    ranked = sorted(contributions.items(), key=lambda item: -item[1])
    return [{"tag": tag, "share": _number(share)} for tag, share in ranked]


def _time(ns: int | None) -> str | None:
    return None if ns is None else iso(ns)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _band(band: Band) -> dict[str, float | None]:
    return {"value": _number(band.value), "low": _number(band.low), "high": _number(band.high)}
