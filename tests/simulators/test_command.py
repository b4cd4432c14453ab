"""The `simulate` command, as a child process and called as a function."""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from edge_agent.clock import parse_iso
from edge_agent.errors import ConfigError, StoreError, TemporaryError
from edge_agent_simulators.command import simulate
from edge_agent_simulators.scenario import scenario_names

START_NS = parse_iso("2026-03-02T00:00:00Z")
CODE = """
import json, sys
from pathlib import Path
from edge_agent_simulators.command import simulate
options = json.loads(sys.argv[1])
for key in ("truth", "served", "replay"):
    if key in options:
        options[key] = Path(options[key])
sys.exit(simulate(**options))
"""


@contextmanager
def child(**options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CODE, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str], seconds: float = 40.0) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    assert ready, "the simulator said nothing"
    return process.stdout.readline()


def ask(port: int, function: int, address: int, count: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, function, address, count))
        return connection.recv(512)[9:]


def begin(process: subprocess.Popen[str], *speed: float) -> None:
    assert process.stdin is not None
    process.stdin.write(" ".join(map(str, (START_NS, time.monotonic_ns(), *speed))) + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, words = process.communicate(timeout=10)
    return process.returncode, words


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_waits_then_tells_the_truth_and_what_it_served(tmp_path: Path) -> None:
    """Time stands still until the parent starts it; then onset and breakdown are logged when reached."""
    truth, served = tmp_path / "truth", tmp_path / "served"
    options = {"truth": str(truth), "served": str(served), "speed": 2_000_000.0, "wait": True}
    with child(scenario="pump-bearing-wear", **options) as process:
        said = json.loads(line_of(process))
        assert said["ready"] is True
        assert said["opcua"] is None
        assert said["start_ns"] == START_NS
        assert said["machines"]["pump-1"]["url"] == f"tcp://127.0.0.1:{said['modbus']}"
        frozen = ask(said["modbus"], 3, 100, 16)
        time.sleep(0.3)
        assert ask(said["modbus"], 3, 100, 16) == frozen
        begin(process)
        time.sleep(0.2)
        assert ask(said["modbus"], 3, 100, 16) != frozen
        until = time.monotonic() + 20
        while len(truth.read_text().splitlines()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        tripped = ask(said["modbus"], 1, 4, 1)
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert end(process)[0] == 0
    onset, breakdown = lines(truth)
    assert onset == {
        "t": "2026-03-12T00:00:00.000Z",
        "machine": "pump-1",
        "fault": "bearing_wear",
        "event": "onset",
        "tags": ["bearing_acceleration", "bearing_crest", "bearing_vibration", "bearing_temperature"],
    }
    assert (breakdown["event"], breakdown["t"][:10]) == ("breakdown", "2026-03-26")
    assert tripped == b"\x01"
    reads = lines(served)
    assert (reads[0]["unit"], reads[0]["function"], reads[0]["address"]) == (1, 3, 100)
    assert struct.pack(">16H", *reads[0]["words"]) == frozen
    assert reads[0]["t"] == START_NS
    assert reads[2]["t"] > START_NS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the run with exit code 0 and without a traceback; the YAML was printed."""
    with child(scenario="pump", port_modbus=0, speed=60.0) as process:
        assert line_of(process) == "machines:\n"
        process.send_signal(number)
        assert process.stdout is not None
        # Not by communicate: the first line was read through a buffer that holds what follows.
        output = process.stdout.read()
        code, words = end(process)
        assert code == 0
        assert "Traceback" not in words
        machine = YAML(typ="safe", pure=True).load("machines:\n" + output)["machines"]["pump-1"]
        assert machine["tags"]["flow"]["address"] == "holding:110"


def test_endless_scenario_lives_now() -> None:
    """A healthy scenario in real time joins the present week, and its values move."""
    with child(scenario="pump", port_modbus=0, json_output=True) as process:
        said = json.loads(line_of(process))
        assert abs(said["start_ns"] - time.time_ns()) < 7.1 * 86_400e9
        seen = set()
        for _ in range(20):
            seen.add(ask(said["modbus"], 3, 106, 10))
            time.sleep(0.05)
        assert len(seen) >= 3


def test_the_parent_may_say_the_speed() -> None:
    """A third number on the start line is the speed, whatever the command line said."""
    with child(scenario="pump", speed=60.0, wait=True) as process:
        said = json.loads(line_of(process))
        before = struct.unpack(">I", ask(said["modbus"], 3, 130, 2))[0]
        begin(process, 400_000.0)
        time.sleep(0.6)
        assert struct.unpack(">I", ask(said["modbus"], 3, 130, 2))[0] > before + 100


@pytest.mark.slow
def test_demo_serves_both_protocols(tmp_path: Path) -> None:
    """The demo's press is on OPC UA with simulated source times, and each value written is on record."""
    served = tmp_path / "served"
    with child(scenario="demo", served=str(served), speed=43_200.0, wait=True) as process:
        said = json.loads(line_of(process))
        assert said["opcua"].startswith("opc.tcp://127.0.0.1:")
        begin(process)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        code, words = end(process)
        assert code == 0, words
    writes = [line for line in lines(served) if line.get("node") == "press-2.OilTemperature"]
    times = [line["t"] for line in writes]
    assert times == sorted(set(times))
    assert times[0] == START_NS
    assert 5 < len(writes) < 60
    assert times[-1] > START_NS + 10 * 3600 * 10**9


def test_bad_start_line_is_an_error() -> None:
    """Anything but numbers on standard input ends the run with an error that says what it wants."""
    with child(scenario="pump", wait=True) as process:
        line_of(process)
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
        code, words = end(process)
        assert code == 1
        assert "EPOCH_NS ORIGIN_MONOTONIC_NS" in words


def test_replays_a_file(tmp_path: Path) -> None:
    """A recorded file is served as float32, row after row, faster than it was recorded."""
    path = tmp_path / "run.csv"
    path.write_text("t,flow,note\n" + "".join(f"{second},{second / 2},x\n" for second in range(0, 1000, 10)))
    with child(replay=str(path), time_column="t", port_modbus=0, speed=1000.0, json_output=True) as process:
        said = json.loads(line_of(process))
        assert said["machines"]["run"]["tags"] == {"flow": {"address": "holding:0", "type": "float32"}}
        seen = []
        for _ in range(30):
            seen.append(struct.unpack(">f", ask(said["modbus"], 3, 0, 2))[0])
            time.sleep(0.05)
        assert seen == sorted(seen)
        assert seen[-1] == 495.0
        assert all(value % 5 == 0 for value in seen)
        process.send_signal(signal.SIGTERM)
        code, words = end(process)
        assert code == 0
        assert "left out, for they are no numbers: note" in words


def test_a_taken_port_names_the_option() -> None:
    """A port somebody listens on is a temporary failure that says which option to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TemporaryError, match=f"port {port} is taken.*--port-modbus"):
            simulate("pump", port_modbus=port)


def test_an_unwritable_log_is_said(tmp_path: Path) -> None:
    """A truth file that cannot be written is an error with its name."""
    with pytest.raises(StoreError, match="cannot be written"):
        simulate("pump", port_modbus=0, truth=tmp_path / "none" / "truth")


def test_lists_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    """The list has each scenario with what it is about, as text or JSON."""
    assert simulate(list_scenarios=True) == 0
    assert simulate(list_scenarios=True, json_output=True) == 0
    text, _, document = capsys.readouterr().out.rpartition("\n{")
    assert [entry["name"] for entry in json.loads("{" + document)["scenarios"]] == scenario_names()
    assert "demo " in text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scenario": "pump", "replay": Path("x.csv")},
        {"scenario": "pump", "loop": True},
        {"scenario": "pump", "speed": 0.0},
    ],
    ids=repr,
)
def test_misuse_is_exit_code_2(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Options that contradict each other are said on standard error, with exit code 2."""
    assert simulate(**options) == 2
    assert capsys.readouterr().err


def test_unknown_scenario_is_suggested() -> None:
    """A misspelt scenario is a configuration error with a suggestion."""
    with pytest.raises(ConfigError, match="did you mean 'pump'"):
        simulate("pmup")


def chaos_of(process: subprocess.Popen[str], count: int) -> list[str]:
    """The first misdeeds a simulator tells on standard error."""
    assert process.stderr is not None
    found: list[str] = []
    deadline = time.monotonic() + 40
    while len(found) < count and time.monotonic() < deadline:
        ready, _, _ = select.select([process.stderr], [], [], 1)
        if ready and "chaos: " in (line := process.stderr.readline()):
            found.append(line.strip())
    return found


def test_chaos_is_told_and_comes_again_with_the_same_seed() -> None:
    """`--chaos` does something bad about so often; the seed decides what."""
    runs = []
    for _ in range(2):
        with child(scenario="press", port_opcua=0, chaos=0.05, seed=5) as process:
            runs.append(chaos_of(process, 8))
    assert len(runs[0]) == 8
    assert runs[0] == runs[1]


def test_chaos_needs_an_opcua_machine() -> None:
    """A scenario that is served over Modbus has nothing to misbehave."""
    with child(scenario="pump", port_modbus=0, chaos=1.0) as process:
        _, said = process.communicate(timeout=40)
    assert process.returncode != 0
    assert "--chaos is for OPC UA" in said
