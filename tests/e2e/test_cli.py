"""The command line as a user meets it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent import control
from edge_agent.cli.connect import try_connections
from edge_agent.cli.run import _refuse_unusable
from edge_agent.errors import StoreError, TemporaryError
from edge_agent.settings.load import require
from edge_agent.settings.models import Configuration
from edge_agent_simulators.modbus_server import ModbusServer
from tests.support.users import plain_user

GOOD = """\
site: hall
agent: cli-test
state: {state}
mqtt: {{url: mqtt://127.0.0.1:1}}
historian: {{kind: none}}
web: {web}
machines:
  pump-1:
    driver: modbus
    url: tcp://127.0.0.1:1
    tags:
      flow: {{address: "holding:100", type: float32, unit: m3/h}}
"""


def edge_agent(*arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments], capture_output=True, text=True, timeout=seconds
    )


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_help_is_there_at_once() -> None:
    """`--help` within 0.3 s (the best of five: the machine may be busy), each command with an example."""
    times = []
    shown = edge_agent("--help")
    for _ in range(5):
        started = time.monotonic()
        edge_agent("--help")
        times.append(time.monotonic() - started)
    assert min(times) <= 0.3, times
    for command in (
        "demo",
        "run",
        "historian",
        "check",
        "simulate",
        "read",
        "tap",
        "probe",
        "scan",
        "browse",
        "profiles",
        "opcua",
    ):
        assert command in shown.stdout
        assert "Example:" in edge_agent(command, "--help").stdout
    for pair in (("scan", "modbus"), ("browse", "opcua"), ("opcua", "enrol")):
        assert "Example:" in edge_agent(*pair, "--help").stdout


def test_a_wrong_command_line_is_2() -> None:
    """Usage errors exit with 2."""
    assert edge_agent("demo", "--seconds", "soon").returncode == 2
    assert edge_agent("frobnicate").returncode == 2


def test_check_names_every_problem_with_its_place(tmp_path: Path) -> None:
    """Two mistakes give two messages with file, line and column, a suggestion, and exit code 78."""
    text = GOOD.format(state=tmp_path, web="off").replace("address:", "adress:").replace("site:", "sites:")
    path = write(tmp_path, text)
    found = edge_agent("check", str(path))
    assert found.returncode == 78
    assert f"{path}:1:1" in found.stdout + found.stderr
    assert f"{path}:12:" in found.stdout + found.stderr
    assert "did you mean 'address'" in found.stdout + found.stderr
    as_json = edge_agent("check", "--json", str(path))
    assert as_json.returncode == 78
    assert json.loads(as_json.stdout)


def test_run_refuses_a_bad_file_with_78(tmp_path: Path) -> None:
    """`run` says the same as `check` and does not start."""
    path = write(
        tmp_path, GOOD.format(state=tmp_path, web="off").replace("driver: modbus", "driver: modbuss")
    )
    refused = edge_agent("run", "-c", str(path))
    assert refused.returncode == 78
    assert "did you mean 'modbus'" in refused.stderr


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A file that is not there is a bad configuration, named, and no traceback."""
    refused = edge_agent("run", "-c", str(tmp_path / "nowhere.yaml"))
    assert refused.returncode == 78
    assert "nowhere.yaml" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_taken_port_is_75_and_names_the_setting(tmp_path: Path) -> None:
    """Where web.listen is taken, the agent says which port and by what setting, and exits with 75."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = write(tmp_path, GOOD.format(state=tmp_path, web=f"{{listen: 127.0.0.1:{port}}}"))
        refused = edge_agent("run", "-c", str(path))
    assert refused.returncode == 75, refused.stderr
    assert str(port) in refused.stderr
    assert "web.listen" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_read_of_an_unreachable_machine_is_75(tmp_path: Path) -> None:
    """`read` shows every tag as not connected, says why, and exits with 75."""
    path = write(tmp_path, GOOD.format(state=tmp_path, web="off"))
    result = edge_agent("read", "-c", str(path), "--json")
    assert result.returncode == 75, result.stderr
    cell = json.loads(result.stdout)["pump-1"]["flow"]
    assert (cell["value"], cell["quality"], cell["reason"]) == (None, "bad", "not_connected")


@pytest.mark.parametrize(
    ("driver", "unwanted"),
    [
        (
            "modbus",
            ["asyncua", "influxdb_client", "starlette", "amqtt", "sklearn", "prometheus_client", "pymodbus"],
        )
    ],
)
def test_only_what_is_configured_is_loaded(tmp_path: Path, driver: str, unwanted: list[str]) -> None:
    """A Modbus-only agent without web and historian loads no library of the parts it does not use."""
    path = write(tmp_path, GOOD.format(state=tmp_path, web="off"))
    program = (
        "import asyncio, sys, pathlib\n"
        "from edge_agent.settings.load import require\n"
        "from edge_agent.agent import Agent\n"
        "async def main():\n"
        "    stop = asyncio.Event()\n"
        "    asyncio.get_running_loop().call_later(0.5, stop.set)\n"
        "    await Agent(require(pathlib.Path(sys.argv[1])), drain=0.0).run(stop)\n"
        "asyncio.run(main())\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "edge_agent_drivers" in loaded
    assert not loaded.intersection(unwanted)


@pytest.mark.parametrize("arguments", [("profiles", "--json"), ("simulate", "--list")])
def test_a_closed_pipe_is_no_complaint(arguments: tuple[str, ...]) -> None:
    """`| head` ends what is shown: no traceback, no exit code of a failure."""
    with subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


def test_a_state_folder_of_somebody_else_is_said() -> None:
    """No traceback: whose it should be, or what else to write. Nobody claims that an agent listens there."""
    with plain_user() as folder:
        state = folder / "state"
        state.mkdir(mode=0o000)
        with pytest.raises(StoreError, match="make it belong to that user, or set `state:`"):
            _refuse_unusable(state)
        with pytest.raises(TemporaryError, match="may not look into"):
            control.ask(state / "agent.sock", {"command": "read"})


@pytest.mark.parametrize(("unit_id", "address", "words"), [
    (9, "holding:0", "check unit_id"),
    (1, "holding:7", "does not know 1 of 1 tags: is this the right device?"),
    (1, "holding:0", ""),
])  # fmt: skip
async def test_check_connect_reads(tmp_path: Path, unit_id: int, address: str, words: str) -> None:
    """An open port is not an answer: a wrong unit id and another device are told before `run` is started."""
    async with ModbusServer({1: {"holding": {0: 7}}}) as device:
        text = GOOD.format(state=tmp_path, web="off").replace("holding:100", address)
        text = text.replace("tcp://127.0.0.1:1", f"tcp://127.0.0.1:{device.port}\n    unit_id: {unit_id}")
        text = text.replace("type: float32", "type: uint16")
        configuration = await asyncio.to_thread(configured, text, tmp_path)
        answers = dict(await try_connections(configuration))
    (error,) = (error for what, error in answers.items() if what.startswith("pump-1"))
    assert words in error
    assert bool(words) == bool(error)


def configured(text: str, folder: Path) -> Configuration:
    return require(write(folder, text))
