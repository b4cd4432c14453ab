"""`edge-agent buffer`: through the running agent, and from the file without one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_agent.buffer import Journal
from edge_agent.clock import Clock
from edge_agent.settings.models import BufferSettings
from tests.support.counting import AgentProcess, CountingMachine, configuration
from tests.support.mosquitto import eventually, free_port


def buffer(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", "buffer", *arguments, "-c", str(folder / "agent.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def shown(folder: Path) -> dict[str, Any]:
    result = buffer(folder, "--json")
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


async def fill(folder: Path, entries: int) -> None:
    """Rows that nobody took, and entries in quarantine."""
    path = folder / "state" / "agent" / "journal.db"
    async with Journal(path, Clock(), BufferSettings(), readers=["mqtt"]) as journal:
        for n in range(5):
            await journal.append("pump-1", b"readings,machine=pump-1 a=%d %d" % (n, n), urgent=True)
            await asyncio.sleep(0.02)
        for record in (await journal.reader("mqtt").fetch())[:1] * entries:
            journal.quarantine(record, b"readings,machine=pump-1 a=7 7", "the store says no")
        await journal.flush()


def settings(folder: Path, machine: int) -> dict[str, Any]:
    away = f"mqtt://127.0.0.1:{free_port()}"
    return configuration(folder, away, machine, historian={"kind": "none"})


async def test_from_the_file_without_changing_it(tmp_path: Path) -> None:
    """Figures, list, export; then retry and drop, through the journal's own lock."""
    (tmp_path / "agent.yaml").write_text(json.dumps(settings(tmp_path, 1)))
    assert "nothing has been kept" in buffer(tmp_path).stdout
    await fill(tmp_path, 3)
    path = tmp_path / "state" / "agent" / "journal.db"
    before = path.read_bytes(), sorted(one.name for one in path.parent.iterdir())
    answer = shown(tmp_path)
    journal = answer["journals"]["agent"]
    assert (answer["running"], journal["rows"], journal["quarantined"]) == (False, 5, 3)
    assert journal["hours_left"] > 0
    assert journal["written_per_day"] is None
    words = buffer(tmp_path).stdout
    assert "5 rows" in words
    assert "3 entries" in words
    entries = json.loads(buffer(tmp_path, "list", "--json").stdout)
    assert [one["reason"] for one in entries] == ["the store says no"] * 3
    exported = buffer(tmp_path, "export").stdout.splitlines()
    assert exported[1::2] == ["readings,machine=pump-1 a=7 7"] * 3
    assert (path.read_bytes(), sorted(one.name for one in path.parent.iterdir())) == before
    assert buffer(tmp_path, "drop").returncode == 2, "not everything by mistake"
    assert buffer(tmp_path, "drop", str(entries[0]["id"])).stdout.startswith("1 entries were given up")
    assert buffer(tmp_path, "retry").stdout.startswith("2 entries are in the journal again")
    journal = shown(tmp_path)["journals"]["agent"]
    assert (journal["rows"], journal["quarantined"]) == (6, 0), "two entries of one commit are one row"
    assert journal["dropped"] == {"quarantine_dropped": 1}
    assert buffer(tmp_path, "retry", "99").returncode == 1


async def test_through_the_running_agent(tmp_path: Path) -> None:
    """The agent answers, its lock stays, what is written a day is told; a deaf agent is named."""
    await fill(tmp_path, 2)
    async with CountingMachine() as machine:
        agent = AgentProcess(tmp_path, settings(tmp_path, machine.server.port))
        async with agent.running():
            await agent.ready()
            await eventually(lambda: len(machine.served) > 15)
            answer = await asyncio.to_thread(shown, tmp_path)
            journal = answer["journals"]["agent"]
            assert answer["running"]
            assert journal["rows"] > 5
            assert journal["hours_left"] > 0
            assert journal["written_per_day"] > 0
            assert journal["medium_bytes"] > journal["bytes"]
            assert journal["quarantined"] == 2
            assert "a day, " in (await asyncio.to_thread(buffer, tmp_path)).stdout
            listed = (await asyncio.to_thread(buffer, tmp_path, "list")).stdout
            assert "the store says no" in listed
            missing = await asyncio.to_thread(buffer, tmp_path, "list", "--of", "historian")
            assert missing.returncode == 1
            assert "there is no journal 'historian' here" in missing.stderr
            retried = await asyncio.to_thread(buffer, tmp_path, "retry")
            assert retried.stdout.startswith("2 entries"), retried.stderr
            (tmp_path / "state" / "agent.sock").unlink()
            deaf = await asyncio.to_thread(buffer, tmp_path)
            assert deaf.returncode == 75
            assert agent.process is not None
            assert f"pid {agent.process.pid}" in deaf.stderr
            deaf = await asyncio.to_thread(buffer, tmp_path, "retry")
            assert deaf.returncode == 75
            before = len(machine.served)
            await eventually(lambda: len(machine.served) > before + 5)
            assert agent.said("cannot be written") == 0
