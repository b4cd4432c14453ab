"""`edge-agent` with a ledger: `python -m tests.prove.launch LEDGER run -c agent.yaml`.

It is the real command; beside it, each line that goes into the agent's journal is noted in LEDGER when it is
taken (`T`), and again when its commit is acknowledged (`A`). Notes are single writes to the system: they
outlive a SIGKILL, like the journal's own. How many tasks there are stands in `tasks` beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import Future
from pathlib import Path

from edge_agent.buffer import Journal
from edge_agent.cli import main
from edge_agent.types import Priority


def keep_ledger(path: str) -> None:
    """From now on, note what the agent's own journal takes and acknowledges."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    tasks = os.open(os.path.join(os.path.dirname(path), "tasks"), os.O_WRONLY | os.O_CREAT, 0o644)
    append = Journal.append

    def noted(
        self: Journal,
        machine: str,
        lines: bytes,
        priority: Priority = Priority.TELEMETRY,
        *,
        urgent: bool = False,
        source: str = "",
    ) -> Future[None]:
        if self.path.parent.name != "agent":
            return append(self, machine, lines, priority, urgent=urgent, source=source)
        texts = lines.split(b"\n")
        os.write(file, b"".join(b"T%s\n" % text for text in texts))
        future = append(self, machine, lines, priority, urgent=urgent, source=source)

        def acknowledged(done: Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                os.write(file, b"".join(b"A%s\n" % text for text in texts))

        future.add_done_callback(acknowledged)
        os.pwrite(tasks, b"%6d" % len(asyncio.all_tasks()), 0)
        return future

    Journal.append = noted  # type: ignore[method-assign]


def begin_life(path: Path) -> None:
    """Note that an agent starts."""
    with path.open("ab") as file:
        file.write(b"S\n")


if __name__ == "__main__":
    begin_life(Path(sys.argv[1]))
    keep_ledger(sys.argv[1])
    main(sys.argv[2:])
