"""How long to leave a broker alone between two connections."""

from __future__ import annotations

import logging
import random

from edge_agent.mqtt.errors import patience

log = logging.getLogger(__name__)

STABLE = 10.0
"""A connection that lasted this long starts the waits from the beginning."""
SHORT_LIVED = 5
"""So many short connections in a row that end without a reason look like a second client of the same name:
each takes the connection from the other. MQTT 3.1.1 has no word for it, and mosquitto 2.0.11 says none."""
ROOM = 30.0
"""Seconds that such a pair leaves each other at least."""


class Pauses:
    """The waits between the connections of one client: they double up to `last`, with jitter."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._wait = 0.0
        self._short_lived = 0

    def after(self, code: int | None, lasted: float | None, *, first: float, last: float) -> float:
        """Seconds until the next try.

        `code`: the broker's reason, if it gave one; `lasted`: how long the connection was up, None where it
        was not made.
        """
        if lasted is None:
            # The broker itself was away, which explains why connections ended.
            self._short_lived = 0
        elif lasted > STABLE:
            self._wait, self._short_lived = 0.0, 0
        elif code is None:
            self._short_lived += 1
        self._wait = min(self._wait * 2 or first, last)
        # Two that were refused together must not come back together.
        least = max(patience(code), self._rivalry()) * random.uniform(1.0, 1.2)
        return max(random.uniform(self._wait / 2, self._wait), least)

    def _rivalry(self) -> float:
        if self._short_lived < SHORT_LIVED:
            return 0.0
        if self._short_lived == SHORT_LIVED:
            log.warning(
                "the broker ended %d connections of %s soon after they were made: perhaps another client "
                "uses the same client id; give each agent its own `agent:` name",
                SHORT_LIVED,
                self._client_id,
            )
        return ROOM
