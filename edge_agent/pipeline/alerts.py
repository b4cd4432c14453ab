"""Alerts on their way out: kept for a restart, journalled, and shown as retained state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from edge_agent.alarms.store import AlarmStore
from edge_agent.alarms.wire import alert_json
from edge_agent.lineprotocol import alarm_line
from edge_agent.pipeline.outlets import Board, Journalling, Place
from edge_agent.types import AlarmState, Alert, Priority

log = logging.getLogger(__name__)


class AlertPublisher:
    """Publishes the transitions of one machine's conditions."""

    def __init__(
        self,
        place: Place,
        journal: Journalling,
        board: Board,
        store: AlarmStore,
        on_alert: Callable[[Alert], None] = lambda _alert: None,
    ) -> None:
        self._place = place
        self._journal = journal
        self._board = board
        self._store = store
        self._on_alert = on_alert

    def publish(self, alerts: Sequence[Alert]) -> None:
        """Store, journal and show each transition."""
        for alert in alerts:
            self._store.save(alert)
            self._journal.append(
                self._place.machine, alarm_line(self._place.levels, alert), Priority.ALARM, urgent=True
            )
            self.show(alert)
            log.info("%s: %s is %s: %s", alert.machine, alert.id, alert.state.value, alert.message)
            self._on_alert(alert)

    def show(self, alert: Alert) -> None:
        """Make the alert the retained state of its topic; a normal condition has none."""
        topic = f"{self._place.topic}/alarms/{alert.id}"
        self._board.retain(topic, b"" if alert.state is AlarmState.NORMAL else alert_json(alert))
