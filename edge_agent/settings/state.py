"""Where the agent keeps its state."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.settings.models import Configuration


def state_folder(configuration: Configuration | None = None) -> Path:
    """`state:` of the configuration, else $STATE_DIRECTORY (systemd), else ./edge-agent-state."""
    if configuration is not None and configuration.state is not None:
        return configuration.state
    from_systemd = os.environ.get("STATE_DIRECTORY")
    return Path(from_systemd.split(":")[0]) if from_systemd else Path("edge-agent-state")
