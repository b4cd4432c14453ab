"""`edge-agent opcua enrol` against node-opcua: certificate, pin, first connection, and what it says."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli.commands import parse
from edge_agent.settings.load import load
from edge_agent_drivers.opcua.certificate import read_certificate
from edge_agent_drivers.opcua.enrol import enrol
from edge_agent_drivers.opcua.security import pin_path
from edge_agent_drivers.opcua.settings import OpcuaMachine
from tests.support import certificates
from tests.support.nodeopcua import NodeOpcuaServer

PLANT = """site: ulsteinvik
state: STATE
machines:
  press-2:
    driver: opcua
    url: URL
    security: {SECURITY}
    tags:
      temperature: {node: "nsu=urn:plant:node;s=Press.Temperature"}
"""


class Run:
    """Runs the command in this process; what it printed as a result is in `out`, what it told in `err`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        code = parse(["opcua", "enrol", *map(str, arguments)])()
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: object) -> dict[str, Any]:
        self(*arguments, "--json")
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture
def plant(tmp_path: Path, node_opcua: NodeOpcuaServer) -> Callable[[str], Path]:
    """Writes a configuration with this `security`."""

    def write(security: str) -> Path:
        text = PLANT.replace("STATE", str(tmp_path / "state")).replace("URL", node_opcua.url)
        (tmp_path / "agent.yaml").write_text(text.replace("SECURITY", security))
        return tmp_path / "agent.yaml"

    return write


def test_a_server_is_enrolled_with_and_then_read(
    node_opcua: NodeOpcuaServer, run: Run, plant: Callable[[str], Path], tmp_path: Path
) -> None:
    """Refused by the server at first with what to click there; once accepted, the driver reads, pinned."""
    config = plant("policy: Basic256Sha256")
    (tmp_path / "state" / "agent").mkdir(parents=True)
    assert [problem.code for problem in load(config).problems] == ["W324"]
    with node_opcua.distrustful():
        assert run("-c", config, "--machine", "press-2", "--yes") == 1
        assert "it does not trust our certificate" in run.out
        assert "Trusted Clients" in run.out
        ours = tmp_path / "state" / "agent" / "opcua" / "press-2.der"
        assert read_certificate(ours).sha1 in run.out
        node_opcua.accept(ours.read_bytes())
        assert run("-c", config, "--machine", "press-2") == 0
    assert "Connected: the server accepts us." in run.out
    assert "security: {policy: Basic256Sha256, mode: SignAndEncrypt}" in run.out
    assert pin_path(tmp_path / "state" / "agent", "press-2").exists()
    assert load(config).problems == []
    assert parse(["read", "-c", str(config), "press-2"])() == 0


def test_what_the_server_offers_is_shown_and_the_best_is_recommended(
    node_opcua: NodeOpcuaServer, run: Run, tmp_path: Path
) -> None:
    """Without a configuration: table, thumbprints, a machine named after the host, exit 1 unpinned."""
    assert run(node_opcua.url, "--state", tmp_path) == 1
    assert (
        "Aes256_Sha256_RsaPss   SignAndEncrypt  password, certificate, anonymous   <- the one to take"
        in run.out
    )
    assert "withdrawn, broken" in run.out
    assert "For 127.0.0.1 in the configuration:" in run.out
    assert "not pinned: compare the thumbprint" in run.err
    found = run.json(node_opcua.url, "--state", tmp_path)
    thumbprint = found["server"]["certificate"]["sha256"]
    assert (found["pinned"], found["connection"]["ok"]) == (None, None)
    assert {offer["policy"] for offer in found["endpoints"] if offer["chosen"]} == {"Aes256_Sha256_RsaPss"}
    spaced = " ".join(thumbprint[i : i + 2] for i in range(0, 64, 2)).lower()
    found = run.json(node_opcua.url, "--state", tmp_path, "--thumbprint", spaced)
    assert found["pinned"] == str(pin_path(tmp_path / "agent", "127.0.0.1"))
    assert found["connection"] == {"ok": True, "error": None}
    assert abs(found["server"]["clock_ahead_s"]) < 5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["opc.tcp://127.0.0.1:9"], 75, "refused: nothing listens on this port"),
        (["opc.tcp://127.0.0.1"], 2, "lacks the port"),
        ([], 2, "name the device by its URL"),
        (["opc.tcp://127.0.0.1:9", "--thumbprint", "abc"], 2, "'abc' is not a thumbprint"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, words: str, run: Run, tmp_path: Path) -> None:
    """Away is 75, a wrong command line 2; each says why."""
    assert run(*arguments, "--state", tmp_path) == code
    assert words in run.err


def test_an_unreachable_server_is_json_too(run: Run, tmp_path: Path) -> None:
    """One document on standard output, whatever happens."""
    found = run.json("opc.tcp://127.0.0.1:9", "--state", tmp_path)
    assert found["connection"]["ok"] is False


def test_a_changed_certificate_needs_more_than_yes(
    node_opcua: NodeOpcuaServer, run: Run, tmp_path: Path
) -> None:
    """--yes pins the first one only; another one needs its thumbprint, or an answer on a terminal."""
    other, _ = certificates.make(tmp_path, "other")
    pin = pin_path(tmp_path / "agent", "press-2")
    pin.parent.mkdir(parents=True)
    pin.write_bytes(other.read_bytes())
    arguments = (node_opcua.url, "--state", tmp_path, "--machine", "press-2")
    assert run(*arguments, "--yes") == 1
    assert "Another certificate has been pinned" in run.err
    assert pin.read_bytes() == other.read_bytes()
    found = run.json(*arguments)
    assert run(*arguments, "--thumbprint", read_certificate(other).sha256) == 1
    assert "another thumbprint than the one given" in run.err
    assert run(*arguments, "--thumbprint", found["server"]["certificate"]["sha1"]) == 0
    assert read_certificate(pin).sha256 == found["server"]["certificate"]["sha256"]


@pytest.mark.parametrize(("reply", "code"), [("y", 0), ("", 1)])
def test_on_a_terminal_it_asks(reply: str, code: int, node_opcua: NodeOpcuaServer, tmp_path: Path) -> None:
    """Nothing but a clear yes pins."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{reply}\n".encode())
        command = [
            sys.executable,
            "-m",
            "edge_agent",
            "opcua",
            "enrol",
            node_opcua.url,
            "--state",
            str(tmp_path),
        ]
        done = subprocess.run(
            command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, timeout=30, check=False
        )
        told = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, told
    assert "Is this the server's certificate? [y/N]" in told
    assert pin_path(tmp_path / "agent", "127.0.0.1").exists() == (code == 0)


def test_renewing_makes_another_certificate(node_opcua: NodeOpcuaServer, run: Run, tmp_path: Path) -> None:
    """--renew makes a new certificate and key; without it they stay."""
    arguments = (node_opcua.url, "--state", tmp_path, "--yes")
    first = run.json(*arguments)["client"]["sha256"]
    assert run.json(*arguments)["client"]["sha256"] == first
    assert run.json(*arguments, "--renew")["client"]["sha256"] != first


def test_the_snippet_keeps_what_is_configured(
    node_opcua: NodeOpcuaServer, run: Run, plant: Callable[[str], Path]
) -> None:
    """User and password stay, the secret stays a secret, and a wrong password is told."""
    config = plant("policy: Aes128_Sha256_RsaOaep, mode: Sign, username: edge, password: wrong")
    assert run("-c", config, "--machine", "press-2", "--yes") == 1
    assert "it does not accept the user or password" in run.out
    assert "Trusted Clients" not in run.out
    assert "mode: Sign, username: edge, password: !secret press-2}" in run.out
    assert "wrong" not in run.out + run.err
    config = plant("policy: Aes128_Sha256_RsaOaep, mode: Sign, username: edge, password: right")
    assert run("-c", config, "--machine", "press-2") == 0


def test_where_the_agent_runs_nothing_is_tried_beside_it(
    node_opcua: NodeOpcuaServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The running agent connects itself: no second session is opened."""
    settings = OpcuaMachine.model_validate({"driver": "opcua", "url": node_opcua.url})
    code = enrol("press-2", settings, tmp_path, reader="press-2", yes=True, thumbprint=None, renew=False,
                 json_output=False)  # fmt: skip
    assert code == 0
    assert "The running agent is connected as press-2" in capsys.readouterr().out


def test_a_server_without_security_is_said_to_have_none(run: Run, press_url: str, tmp_path: Path) -> None:
    """Only policy None: nothing can be pinned, and that is a finding."""
    assert run(press_url, "--state", tmp_path) == 1
    assert "it offers no security worth the name" in run.err


@pytest.fixture
def press_url(press: Any) -> str:
    """Our simulator, which offers policy None only."""
    return str(press.url)


def test_an_enrolled_server_is_browsed_without_a_configuration(
    node_opcua: NodeOpcuaServer,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`browse opcua URL --security` finds the certificates that `opcua enrol URL` kept."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    browse = ["browse", "opcua", node_opcua.url, "--security", "Basic256Sha256", "--pattern", "*Temperature"]
    assert parse(browse)() != 0
    assert "its certificate is not pinned" in capsys.readouterr().err
    assert run(node_opcua.url, "--yes") == 0
    assert parse(browse)() == 0
    shown = capsys.readouterr().out
    assert "Press.Temperature" in shown
    assert "    security: {policy: Basic256Sha256}" in shown
