"""What the historian asks of a store."""

from __future__ import annotations

from edge_agent.contracts.plugs import Sink


class Store(Sink):
    """A sink for years, which keeps house."""

    async def tidy(self) -> None:
        """Make minutes of what is new, drop what is over its age; called once a minute.

        SinkUnavailable where that must wait; nothing is lost by waiting.
        """
