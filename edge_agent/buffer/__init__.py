"""Store and forward: a journal on disk that keeps every committed line until its sink has it."""

from edge_agent.buffer.forward import Delivery, forward
from edge_agent.buffer.journal import Journal, JournalStats
from edge_agent.buffer.reader import Reader
from edge_agent.buffer.rows import Quarantined

__all__ = ["Delivery", "Journal", "JournalStats", "Quarantined", "Reader", "forward"]
