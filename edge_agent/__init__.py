"""edge-agent: collects machine readings, loses none, and warns before the machine stops."""

__version__ = "0.1.0"
