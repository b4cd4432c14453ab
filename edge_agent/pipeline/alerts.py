"""Alerts on their way out: kept for a restart, journalled, and shown as retained state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge_agent.alarms.wire import alert_json
from edge_agent.lineprotocol import alarm_line
from edge_agent.pipeline.outlets import Board, Journalling, Place
from edge_agent.types import AlarmState, Alert, Priority

log = logging.getLogger(__name__)


Record = Callable[[Sequence[Alert], int], None]
"""Keeps transitions for a restart; returns at once, the writing is somebody else's."""


class AlertPublisher:
    """Publishes the transitions of one machine's conditions."""

    def __init__(
        self,
        place: Place,
        journal: Journalling,
        board: Board,
        record: Record,
        on_alert: Callable[[Alert], None] = lambda _alert: None,
    ) -> None:
        self._place = place
        self._journal = journal
        self._board = board
        self._record = record
        self._on_alert = on_alert

    def publish(self, alerts: Sequence[Alert], at: int) -> None:
        """Store, journal and show each transition; `at` is when it happened (UTC ns)."""
        if not alerts:
            return
        self._record(alerts, at)
        for alert in alerts:
            self._journal.append(
                self._place.machine, alarm_line(self._place.levels, alert, at), Priority.ALARM, urgent=True
            )
            self.show(alert)
            log.info("%s: %s is %s: %s", alert.machine, alert.id, alert.state.value, alert.message)
            self._on_alert(alert)

    def show(self, alert: Alert) -> None:
        """Make the alert the retained state of its topic; a normal condition has none."""
        topic = f"{self._place.topic}/alarms/{alert.id}"
        self._board.retain(topic, b"" if alert.state is AlarmState.NORMAL else alert_json(alert))
