"""The demo's result, as JSON (INTERFACE.md, `demo`) and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.clock import SECOND, iso
from edge_agent.demo.truth import Failure
from edge_agent.types import AlarmKind, Alert


@dataclass(frozen=True, slots=True)
class Result:
    """What a demo run showed. `alerts` are the raised ones of all kinds, in order of time."""

    readings: int
    lost: int
    machines: tuple[str, ...]
    alerts: Sequence[Alert]
    failure: Failure | None
    simulated_s: float
    wall_s: float

    @property
    def maintenance(self) -> list[Alert]:
        """The maintenance alerts."""
        return [alert for alert in self.alerts if alert.kind is AlarmKind.HEALTH]

    @property
    def warning(self) -> Alert | None:
        """The first maintenance alert on the machine that failed, if it came before the failure."""
        if self.failure is None:
            return None
        before = [
            alert
            for alert in self.maintenance
            if alert.machine == self.failure.machine and alert.raised_at < self.failure.at
        ]
        return before[0] if before else None

    @property
    def lead_time_s(self) -> float | None:
        """Simulated seconds from the warning to the failure."""
        if self.warning is None or self.failure is None:
            return None
        return (self.failure.at - self.warning.raised_at) / SECOND

    def as_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {
            "readings": self.readings,
            "lost": self.lost,
            "machines": list(self.machines),
            "alerts": [_alert_json(alert) for alert in self.maintenance],
            "sensor_faults": [
                {"machine": alert.machine, "raised_at": iso(alert.raised_at), "message": alert.message}
                for alert in self.alerts
                if alert.kind is AlarmKind.DATA_QUALITY
            ],
            "failure": None if self.failure is None else _failure_json(self.failure),
            "lead_time_s": self.lead_time_s,
            "simulated_s": round(self.simulated_s, 1),
            "wall_s": round(self.wall_s, 2),
        }

    def in_words(self) -> list[str]:
        """A few sentences for a person."""
        words = [
            f"{self.readings} values stored, {self.lost} lost; "
            f"{self.simulated_s / 86_400:.0f} days in {self.wall_s:.0f} s."
        ]
        if self.failure is None:
            words.append("No machine failed in this run.")
        elif self.warning is None:
            words.append(f"{self.failure.machine} failed on {_day(self.failure.at)} and nobody was warned.")
        else:
            days = (self.lead_time_s or 0.0) / 86_400
            words.append(
                f"{self.failure.machine} failed on {_day(self.failure.at)} "
                f"({self.failure.fault.replace('_', ' ')}); the warning came on "
                f"{_day(self.warning.raised_at)}, {days:.1f} days before."
            )
        quiet = [m for m in self.machines if all(alert.machine != m for alert in self.maintenance)]
        if quiet:
            words.append(f"No maintenance alert on {', '.join(quiet)}, which stayed healthy, hot day or not.")
        sensors = [alert for alert in self.alerts if alert.kind is AlarmKind.DATA_QUALITY]
        words += [f"{alert.machine}: {alert.message}" for alert in sensors[:3]]
        return words


def _alert_json(alert: Alert) -> dict[str, Any]:
    shares = sorted(alert.contributions.items(), key=lambda item: -item[1])
    return {
        "machine": alert.machine,
        "raised_at": iso(alert.raised_at),
        "message": alert.message,
        "contributions": [{"tag": tag, "share": round(share, 4)} for tag, share in shares],
        "action": alert.action,
    }


def _failure_json(failure: Failure) -> dict[str, Any]:
    return {
        "machine": failure.machine,
        "fault": failure.fault,
        "onset": iso(failure.onset),
        "at": iso(failure.at),
        "tags": list(failure.tags),
    }


def _day(ns: int) -> str:
    return iso(ns)[:16].replace("T", " ")
