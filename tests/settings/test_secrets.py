"""Passwords and tokens: found where they should be, shown nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.settings.check import check
from edge_agent.settings.load import load, require
from edge_agent.settings.masking import looks_secret, masked

CANARY = "c4n4ry-9f3e"
PLANT = """site: ulsteinvik
mqtt: {{username: edge, password: {password}}}
machines:
  pump-1:
    driver: modbus
    url: tcp://10.0.4.21:502
    tags:
      current: {{address: "holding:102", type: float32, unit: A}}
"""


def write(tmp_path: Path, password: str) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(PLANT.format(password=password), encoding="utf-8")
    return path


def secrets(folder: Path, text: str, mode: int = 0o640) -> None:
    (folder / "secrets.yaml").write_text(text, encoding="utf-8")
    (folder / "secrets.yaml").chmod(mode)


def password(path: Path, env: dict[str, str] | None = None) -> str:
    found = require(path, env=env or {}).mqtt.password
    assert found is not None
    return found.get_secret_value()


def test_secrets_file(tmp_path: Path) -> None:
    """`!secret name` is looked up beside the file; a number stays the text that it is."""
    path = write(tmp_path, "!secret mqtt")
    secrets(tmp_path, f"mqtt: {CANARY}\n")
    assert password(path) == CANARY
    secrets(tmp_path, "mqtt: 007\n")
    assert password(path) == "007"


def test_included_file_has_its_own(tmp_path: Path) -> None:
    """An included file's secrets are looked up beside it first, then beside the main file."""
    path = write(tmp_path, "!secret mqtt")
    path.write_text(
        "include: [sub/more.yaml]\n" + path.read_text().replace("mqtt:", "# mqtt:"), encoding="utf-8"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/more.yaml").write_text(
        "mqtt: {username: edge, password: !secret mqtt}\n", encoding="utf-8"
    )
    secrets(tmp_path, "mqtt: outer\n")
    assert password(path) == "outer"
    secrets(tmp_path / "sub", "mqtt: inner\n")
    assert password(path) == "inner"


def test_credentials_directory(tmp_path: Path) -> None:
    """What secrets.yaml does not have is looked up among systemd's credentials."""
    path = write(tmp_path, "!secret mqtt")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/mqtt").write_text(f"{CANARY}\n", encoding="utf-8")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert password(path, env) == CANARY
    secrets(tmp_path, "mqtt: from-file\n")
    assert password(path, env) == "from-file"


def test_variable(tmp_path: Path) -> None:
    """`${VAR}` as the whole value of a secret comes from the environment."""
    assert password(write(tmp_path, '"${MQTT_PASSWORD}"'), {"MQTT_PASSWORD": CANARY}) == CANARY


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o777])
def test_open_secrets_are_refused(tmp_path: Path, mode: int) -> None:
    """secrets.yaml that others may read is refused, with the command that mends it."""
    secrets(tmp_path, f"mqtt: {CANARY}\n", mode)
    (problem,) = load(write(tmp_path, "!secret mqtt"), env={}).problems
    assert (problem.code, problem.line) == ("E116", 1)
    assert problem.hint == f"chmod 640 {tmp_path / 'secrets.yaml'}"


def test_broken_secrets_file_is_not_quoted(tmp_path: Path) -> None:
    """What is wrong in secrets.yaml is told by its place alone."""
    secrets(tmp_path, f"mqtt: '{CANARY}\nother: {CANARY}: x\n")
    problems = load(write(tmp_path, "!secret mqtt"), env={}).problems
    assert any(problem.file.endswith("secrets.yaml") for problem in problems)
    assert CANARY not in "".join(map(str, problems))


LEAKS = [
    f"password: {CANARY}",
    f"pasword: {CANARY}",
    f"password: '{CANARY}",
    f"password: {CANARY}: x",
    f"password:\n    {CANARY}: 1",
    f"password:\n  {CANARY}",
    f"password: [{CANARY}]",
    f"url: mqtt://edge:{CANARY}@broker:1883",
    f"url: tcp://edge:{CANARY}@broker:1883",
    f"token: {CANARY}",
    f"passwrd: {{a: {CANARY}}}",
    f"username: [x]\n  password: {CANARY}",
    f"payload: jsn\n  password: {CANARY}",
    f"payload: jsn\n  password: |\n    {CANARY}\n    more",
]


@pytest.mark.parametrize("line", LEAKS)
def test_canary_is_nowhere(tmp_path: Path, line: str) -> None:
    """Whatever is wrong, a password is in no message, no source line, no JSON and no exception."""
    path = tmp_path / "agent.yaml"
    path.write_text(f"site: a\nmqtt:\n  {line}\nsitte: x\n", encoding="utf-8")
    result = check([path], env={})
    assert result.problems
    assert CANARY not in result.text(source=True)
    assert CANARY not in json.dumps(result.to_json())
    assert CANARY not in repr(result)
    with pytest.raises(ConfigError) as caught:
        require(path, env={})
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_canary_in_resolved_secret(tmp_path: Path) -> None:
    """A secret that is no value for its place is not shown either, nor is one that is."""
    secrets(tmp_path, f"secret: {CANARY}\n")
    path = write(tmp_path, "!secret secret")
    assert CANARY not in repr(require(path, env={}))
    assert CANARY not in require(path, env={}).model_dump_json()
    text = path.read_text().replace("username: edge", "payload: !secret secret, url: !secret secret")
    path.write_text(text.replace("102", '102", every: !secret secret, x: "1'), encoding="utf-8")
    result = check([path], env={})
    assert len(result.problems) >= 3
    assert CANARY not in result.text(source=True) + repr(result) + json.dumps(result.to_json())


@pytest.mark.parametrize(
    "key", ["password", "Passwort", "pasword", "mqtt_token", "client-secret", "tokn", "api_key"]
)
def test_keys_that_look_secret(key: str) -> None:
    """Mistyped and foreign names of secrets are recognised."""
    assert looks_secret(key)


@pytest.mark.parametrize("key", ["address", "unit", "tags", "processed", "topic", "key_file"])
def test_keys_that_do_not(key: str) -> None:
    """Ordinary keys are shown."""
    assert not looks_secret(key)


def test_masking_keeps_references() -> None:
    """A reference to a secret is no secret, and may be shown."""
    for line in ("  password: !secret mqtt  # x", '  password: "${MQTT}"', "  topic: a"):
        assert masked([line], 0) == line
    assert masked(["a: {user: x, password: y}"], 0) == "a: {user: x, password: ***"


def test_masking_follows_the_value() -> None:
    """The value of a secret is left out also where it stands below its key."""
    lines = ["mqtt:", "  password: |", "    first", "    second: x", "  username: edge"]
    assert [masked(lines, index) for index in range(5)] == [
        "mqtt:", "  password: ***", "    ***", "    ***", "  username: edge",
    ]  # fmt: skip
