"""A child process that journals numbered lines and tells on standard output what is acknowledged."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from edge_agent.buffer import Journal
from edge_agent.clock import Clock
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Priority


async def main(folder: Path, first: int) -> None:
    settings = BufferSettings.model_validate({"commit_interval": "5ms"})
    journal = Journal(folder / "journal.db", Clock(), settings)
    await journal.open()
    out = sys.stdout
    out.write("open\n")
    out.flush()
    reader = journal.reader()
    number = first
    while True:
        waiting = []
        for _ in range(random.randint(1, 60)):
            number += 1
            priority = Priority.ALARM if random.random() < 0.02 else Priority.TELEMETRY
            line = f"readings,machine=m{number % 7} v={number * 3} {number}"
            waiting.append((number, journal.append(f"m{number % 7}", line.encode(), priority)))
        await asyncio.wait([future for _, future in waiting])
        out.writelines(f"+{one}\n" for one, _ in waiting)
        out.flush()
        if random.random() < 0.2:
            records = await reader.fetch(max_records=20)
            lines = [line for record in records for line in record.lines.split(b"\n")]
            # said before it is done: whoever reads this must expect either
            out.writelines(f"-{int(line.rsplit(b' ', 1)[1])}\n" for line in lines)
            out.flush()
            reader.ack(record.seq for record in records)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
