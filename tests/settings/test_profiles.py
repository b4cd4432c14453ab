"""Merging a device profile into a machine: what it brings, what gives way, and where problems stand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.settings.check import check
from edge_agent.settings.load import load, require
from edge_agent.types import Kind

METER = """\
device: A meter
verified: manual
firmware: not stated
source: [{document: Manual, version: "1", url: "https://example.com/meter"}]
not_known: [nothing]
address_base: 1
byte_order: {float32: CDAB, int32: ABCD}
max_registers: 20
min_pause: 20ms
update_period: 5s
comm_watchdog: {text: It stops, timeout: 30s, parameter: P1}
identity: {address: "holding:1", expect: [7]}
measurement: meters
params:
  ratio: {label: ratio of the transformer, scales: [current, power], default: 1}
tags:
  current:
    address: "holding:10"
    type: int32
    scale: 0.1
    unit: A
    limits: {on_delay: 5s, high: {value: 90, action: Look}, high_high: {value: 95, action: Stop}}
  power: {address: "holding:12", type: float32, unit: kW}
  energy: {address: "holding:14", type: float32, unit: kWh, kind: counter, every: 1m}
"""


def plant(folder: Path, machines: str, meter: str = METER) -> Path:
    (folder / "meter.yaml").write_text(meter)
    path = folder / "agent.yaml"
    path.write_text("site: s\nmachines:\n" + machines)
    return path


def machine(folder: Path, keys: str = "", meter: str = METER) -> Any:
    text = f"  m:\n    profile: ./meter.yaml\n    url: tcp://10.0.0.1\n{keys}"
    return require(plant(folder, text, meter), env={}).machines["m"]


def test_a_profile_brings_everything(tmp_path: Path) -> None:
    """Driver, addresses, orders, limits of the device, timing, watchdog, identity and tags come from it."""
    made = machine(tmp_path)
    assert made.driver == "modbus"
    assert (made.address_base, made.max_registers, made.measurement) == (1, 20, "meters")
    assert made.byte_order == {"float32": "CDAB", "int32": "ABCD"}
    assert (made.comm.pause, made.every) == (0.02, 5.0)
    assert made.comm_watchdog.timeout == 30
    assert made.identity.expect == [7]
    assert list(made.tags) == ["current", "power", "energy"]
    assert made.tags["current"].scale == 0.1
    assert made.tags["energy"].kind is Kind.COUNTER
    assert made.rate_of(made.tags["energy"]) == 60.0


def test_own_settings_override_key_by_key(tmp_path: Path) -> None:
    """Of the machine, of its mappings, of a tag, and of a tag's limits: what is not said stays."""
    made = machine(
        tmp_path,
        """\
    max_registers: 10
    byte_order: {float32: ABCD}
    comm: {retest: 1m}
    comm_watchdog: {timeout: 60s}
    every: 2s
    tags:
      current: {unit: mA, limits: {high: 80}}
      extra: {address: "holding:20"}
""",
    )
    assert made.max_registers == 10
    assert made.byte_order == {"float32": "ABCD", "int32": "ABCD"}
    assert (made.comm.pause, made.comm.retest) == (0.02, 60.0)
    assert (made.comm_watchdog.timeout, made.comm_watchdog.parameter) == (60.0, "P1")
    assert made.every == 2.0
    current = made.tags["current"]
    assert (current.unit, current.type, current.scale) == ("mA", "int32", 0.1)
    assert (current.limits.high.value, current.limits.high.action) == (80, "")
    assert (current.limits.high_high.value, current.limits.on_delay) == (95, 5.0)
    assert list(made.tags) == ["current", "power", "energy", "extra"]


@pytest.mark.parametrize("off", ["off", "false", "'off'"])
def test_tags_are_dropped_and_chosen(off: str, tmp_path: Path) -> None:
    """`TAG: off` drops one; `profile_tags` takes only some, and those that the machine changes."""
    assert list(machine(tmp_path, f"    tags: {{power: {off}}}\n").tags) == ["current", "energy"]
    assert list(machine(tmp_path, "    profile_tags: [energy]\n").tags) == ["energy"]
    chosen = machine(tmp_path, "    profile_tags: [energy]\n    tags: {current: {deadband: 1}}\n")
    assert list(chosen.tags) == ["current", "energy"]
    assert list(machine(tmp_path, "    profile_tags: []\n    tags: {a: {address: 'coil:1'}}\n").tags) == ["a"]


def test_one_rate_and_one_scale_at_each_place(tmp_path: Path) -> None:
    """What would contradict a profile's key takes its place: scan for every, scaling for scale."""
    made = machine(
        tmp_path,
        """\
    scan: slow
    tags:
      current: {scaling: {raw: [0, 100], eng: [0, 50]}}
      energy: {scan: fast}
""",
    )
    assert made.every == 60.0
    assert made.tags["current"].scaling.eng == (0, 50)
    assert made.tags["current"].scale == 1.0
    assert made.tags["energy"].every == 0.25


def test_parts_of_a_profile_can_be_switched_off(tmp_path: Path) -> None:
    """`comm_watchdog: off` and `identity: off`."""
    made = machine(tmp_path, "    comm_watchdog: off\n    identity: off\n")
    assert made.comm_watchdog is None
    assert made.identity is None


def test_parameters_scale_tags(tmp_path: Path) -> None:
    """A number multiplies the scale as the decimals it is written with; a scale of one's own stays."""
    made = machine(tmp_path, "    params: {ratio: 0.3}\n    tags: {power: {scale: 7}}\n")
    assert made.tags["current"].scale == 0.03
    assert made.tags["power"].scale == 7
    assert machine(tmp_path).tags["current"].scale == 0.1


def test_a_tag_without_its_parameter_is_left_out(tmp_path: Path) -> None:
    """Rather no value than one with a guessed scale."""
    keys = "profile: ./meter.yaml, url: tcp://10.0.0.1, health: off, comm_watchdog: off"
    path = plant(tmp_path, f"  m: {{{keys}}}\n", METER.replace(", default: 1", ""))
    loaded = load(path, env={})
    assert [problem.code for problem in loaded.problems] == ["W311"]
    assert loaded.configuration is not None
    assert list(loaded.configuration.machines["m"].tags) == ["energy"]


def test_names_of_the_profile_are_known_everywhere(tmp_path: Path) -> None:
    """Expressions, health, context and alarms may name a profile's tags."""
    made = machine(
        tmp_path,
        """\
    health: {tags: [current], context: [power], running_when: current > 2}
    tags:
      energy: {limits: {high: {value: 5, action: Look}, active_when: power > 1}}
""",
    )
    assert made.health.tags == ["current"]


def test_the_same_profile_for_many_machines(tmp_path: Path) -> None:
    """Machines that share tags by anchor do not change each other."""
    path = plant(
        tmp_path,
        """\
  a: {profile: ./meter.yaml, url: "tcp://10.0.0.1", params: {ratio: 10}, tags: &t {power: off}}
  b: {profile: ./meter.yaml, url: "tcp://10.0.0.2", tags: *t}
  c: &c {profile: ./meter.yaml, url: "tcp://10.0.0.3", params: {ratio: 100}}
  d: *c
  e: {profile: eastron-sdm72, url: "tcp://10.0.0.4"}
""",
    )
    machines = require(path, env={}).machines
    assert [list(machines[name].tags) for name in "ab"] == [["current", "energy"]] * 2
    assert [machines[name].tags["current"].scale for name in "abcd"] == [1.0, 0.1, 10.0, 10.0]
    assert "power_active_total" in machines["e"].tags


def test_a_profile_beside_an_included_file(tmp_path: Path) -> None:
    """The path is relative to the file that says `profile`."""
    (tmp_path / "machines").mkdir()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "meter.yaml").write_text(METER)
    (tmp_path / "machines" / "m.yaml").write_text(
        "machines:\n  m: {profile: ../profiles/meter.yaml, url: tcp://10.0.0.1}\n"
    )
    path = tmp_path / "agent.yaml"
    path.write_text("site: s\ninclude: [machines/*.yaml]\n")
    assert list(require(path, env={}).machines["m"].tags) == ["current", "power", "energy"]


def test_problems_of_what_was_brought_stand_at_profile(tmp_path: Path) -> None:
    """What fits the profile and not the machine is said where the machine names the profile."""
    path = plant(tmp_path, "  m:\n    url: tcp://10.0.0.1\n    profile: ./meter.yaml\n    max_registers: 1\n")
    problems = load(path, env={}).errors
    assert {(problem.line, problem.column) for problem in problems} == {(5, 5)}
    assert all("max_registers is 1" in problem.message for problem in problems)


def test_a_wrong_profile_of_ones_own_is_shown_in_its_file_only(tmp_path: Path) -> None:
    """Its mistakes stand at their lines, and the machine is not blamed for tags that are missing."""
    path = plant(
        tmp_path,
        "  m: {profile: ./meter.yaml, url: tcp://10.0.0.1, health: {running_when: current > 1}}\n",
        METER.replace("type: int32", "type: int33").replace("scales: [current,", "scales: [curent,"),
    )
    found = [(Path(problem.file).name, problem.line, problem.code) for problem in load(path, env={}).problems]
    assert found == [("meter.yaml", 19, "E108")]


def test_params_and_profile_tags_belong_to_a_profile(tmp_path: Path) -> None:
    """Without `profile` they are refused rather than without effect."""
    text = "  m: {driver: modbus, url: tcp://10.0.0.1, %s, tags: {a: {address: 'coil:1'}}}\n"
    for keys in ("params: {ratio: 2}", "profile_tags: [a]"):
        loaded = load(plant(tmp_path, text % keys), env={})
        assert [problem.code for problem in loaded.problems] == ["E113"]


def test_check_prints_the_watchdog_and_warns(tmp_path: Path) -> None:
    """`check` says what silence does; over a third of its time it warns, and not once it is switched off."""
    text = "  m: {profile: ./meter.yaml, url: tcp://10.0.0.1, every: %s%s, profile_tags: [current]}\n"
    quick = check([plant(tmp_path, text % ("10s", ""))], env={})
    assert "m: communication watchdog: It stops; timeout 30s; set in P1" in quick.text()
    assert quick.to_json()["files"][0]["summary"]["comm_watchdogs"][0]["timeout"] == 30
    assert quick.warnings == 0
    slow = check([plant(tmp_path, text % ("11s", ""))], env={})
    assert [problem.code for problem in slow.problems] == ["W312"]
    off = check([plant(tmp_path, text % ("11s", ", comm_watchdog: off"))], env={})
    assert off.problems == []
    assert "communication watchdog" not in off.text()


def test_the_watchdog_of_any_driver(tmp_path: Path) -> None:
    """A machine without a profile, and of another driver, may say it too."""
    path = plant(
        tmp_path,
        '  m: {driver: opcua, url: "opc.tcp://10.0.0.1:4840", every: 1m, tags: {a: {node: "ns=2;s=A"}},\n'
        "      comm_watchdog: {text: It stops, timeout: 30s}}\n",
    )
    assert [problem.code for problem in load(path, env={}).problems] == ["W312"]


VALUES = (
    "off", "~", "3", "0.5", "text", "[1, a]", "{a: 1}", "[]", "{}", "-1", "1h", "[current]", "*a",
    "&a {b: c}", "!secret x", "{power: off}", "{current: {scaling: {raw: [0, 1], eng: [0, 2]}}}",
    "{ratio: [1]}",
)  # fmt: skip
KEYS = (
    "profile_tags", "tags", "params", "identity", "comm_watchdog", "every", "scan", "byte_order", "invalid",
    "comm", "driver", "health", "readable", "holes", "max_registers", "measurement",
)  # fmt: skip


def test_no_mistake_is_an_exception(tmp_path: Path) -> None:
    """Whatever a machine and a profile of one's own say: problems, or a configuration."""
    chance = random.Random(12)
    lines = METER.splitlines()
    for _ in range(200):
        meter = list(lines)
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(meter))
            meter[at] = chance.choice(["", f"{meter[at].split(':')[0]}: {chance.choice(VALUES)}"])
        keys = chance.sample(KEYS, chance.randint(0, 4))
        said = "".join(f"    {key}: {chance.choice(VALUES)}\n" for key in keys)
        text = f"  m:\n    profile: ./meter.yaml\n    url: tcp://10.0.0.1\n{said}"
        result = check([plant(tmp_path, text, "\n".join(meter))], env={})
        assert result.problems or result.files[0].usable, text


def edge_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments], capture_output=True, text=True, timeout=30
    )


def test_the_command_lists_and_shows_profiles() -> None:
    """All with device, source and verified; one whole with what is not known; 78 with a suggestion."""
    listed = json.loads(edge_agent("profiles", "--json").stdout)
    assert listed["omron-e5"]["verified"] == "manual"
    assert {"device", "source", "tags", "driver"} <= listed["omron-e5"].keys()
    shown = edge_agent("profiles", "abb-acs").stdout
    for words in ("58.14", "not known:", "https://", "holding:4", "counted from 1"):
        assert words in shown
    assert "siemens-sinamics" in edge_agent("profiles").stdout
    wrong = edge_agent("profiles", "abb-asc")
    assert wrong.returncode == 78
    assert "did you mean 'abb-acs'?" in wrong.stderr


def test_read_says_what_silence_does(tmp_path: Path) -> None:
    """On standard error, whether the machine answers or not, so that JSON stays clean."""
    path = plant(tmp_path, "  m: {profile: ./meter.yaml, url: 'tcp://127.0.0.1:1', timeout: 200ms}\n")
    path.write_text(f"state: {tmp_path}\n" + path.read_text())
    result = edge_agent("read", "-c", str(path), "--json")
    assert result.returncode == 75
    assert "m: communication watchdog: It stops; timeout 30s; set in P1" in result.stderr
    assert set(json.loads(result.stdout)["m"]) == {"current", "power", "energy"}
