"""Defaults, and machines that stand for many: what is made of them, in which order, and how fast."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.settings.check import check
from edge_agent.settings.load import load, require

HEAD = "site: s\n"
METERS = """\
machines:
  "{name}":
    from: meters.csv
    profile: eastron-sdm630
    url: tcp://{ip}:502
    unit_id: "{unit}"
    label: "{label}"
    location: Hall {hall}, row {unit}
"""


def machines(folder: Path, text: str, csv: str = "") -> dict[str, Any]:
    if csv:
        (folder / "meters.csv").write_bytes(csv.encode())
    (folder / "agent.yaml").write_text(HEAD + text)
    return require(folder / "agent.yaml", env={}).machines


@pytest.mark.parametrize("csv", [
    "name,ip,unit,label,hall\nm-1,10.0.0.1,7,101,A\nm-2,10.0.0.2,8,,B\n",
    "\ufeffname;ip;unit;label;hall\r\nm-1;10.0.0.1;7;101;A\r\n;;;;\r\n\"m-2\"; 10.0.0.2 ;8;;B;;\r\n",
    'name\tip\tunit\tlabel\thall\nm-1\t10.0.0.1\t7\t"101"\tA\nm-2\t10.0.0.2\t8\t\tB',
])  # fmt: skip
def test_a_machine_for_each_line(csv: str, tmp_path: Path) -> None:
    """As spreadsheets write it; a number is one where a number belongs, an empty cell leaves its key out."""
    made = machines(tmp_path, METERS, csv)
    assert list(made) == ["m-1", "m-2"]
    first, second = made.values()
    assert (first.url, first.unit_id, first.label, first.location) == (
        "tcp://10.0.0.1:502", 7, "101", "Hall A, row 7",
    )  # fmt: skip
    assert (second.unit_id, second.label) == (8, None)
    assert list(first.tags) == list(second.tags)


def test_quotes_keep_separators(tmp_path: Path) -> None:
    """A cell in quotes may hold the separator, and quotes written twice."""
    csv = 'name,ip,unit,label,hall\nm,10.0.0.1,7,"Press 1, ""left""",A\n'
    assert machines(tmp_path, METERS, csv)["m"].label == 'Press 1, "left"'


def test_a_profile_from_a_column(tmp_path: Path) -> None:
    """A list of mixed meters names each one's profile."""
    csv = "name,ip,model\na,10.0.0.1,eastron-sdm630\nb,10.0.0.2,eastron-sdm120\n"
    text = 'machines:\n  "{name}": {from: meters.csv, url: "tcp://{ip}:502", profile: "{model}"}\n'
    made = machines(tmp_path, text, csv)
    assert [one.profile for one in made.values()] == ["eastron-sdm630", "eastron-sdm120"]
    assert len(made["a"].tags) > len(made["b"].tags)


def test_a_range(tmp_path: Path) -> None:
    """`{n}` is the number as it stands in the name, also in a tag's texts."""
    text = """\
machines:
  press:
    {driver: modbus, url: "tcp://10.0.3.1:502", label: "{n}", tags: {a: {address: "coil:1"}}}
  pump-{08..11}:
    driver: modbus
    url: tcp://10.0.4.1:502
    unit_id: "{n}"
    tags: {flow: {address: "holding:1", label: "Flow of {n}"}}
"""
    made = machines(tmp_path, text)
    assert list(made) == ["press", "pump-08", "pump-09", "pump-10", "pump-11"]
    assert (made["pump-08"].unit_id, made["pump-08"].tags["flow"].label) == (8, "Flow of 08")
    assert made["press"].label == "{n}"


def test_own_then_profile_then_driver_then_all(tmp_path: Path) -> None:
    """The nearest word counts, key by key within health and comm; a scan class gives way to a rate."""
    text = """\
defaults:
  all: {area: hall-1, timeout: 9s, scan: slow, health: {learn: 8h, action: Look}}
  modbus: {timeout: 2s, max_registers: 5, comm: {pause: 5ms, retries: 1}}
  opcua: {timeout: 7s}
machines:
  meter:
    profile: ./meter.yaml
    url: tcp://10.0.0.1:502
    comm: {retries: 2}
  pump:
    {driver: modbus, url: "tcp://10.0.0.2", every: 2s, health: {learn: 4h}, tags: {a: {address: "coil:1"}}}
  plc: {driver: opcua, url: "opc.tcp://plc:4840", area: hall-2, health: off, tags: {a: {node: "ns=2;s=a"}}}
"""
    (tmp_path / "meter.yaml").write_text(
        "device: d\nverified: manual\nfirmware: f\nnot_known: [a]\n"
        'source: [{document: d, version: "1", url: "https://example.com"}]\n'
        "max_registers: 20\nmin_pause: 30ms\ntags: {i: {address: 'holding:1'}}\n"
    )
    made = machines(tmp_path, text)
    meter, pump, plc = made["meter"], made["pump"], made["plc"]
    assert (meter.max_registers, meter.comm.pause, meter.comm.retries) == (20, 0.03, 2)
    assert (meter.timeout, meter.every, meter.area) == (2.0, 60.0, "hall-1")
    assert (pump.max_registers, pump.every, pump.scan) == (5, 2.0, None)
    assert (pump.health.learn, pump.health.action) == (4 * 3600.0, "Look")
    assert (plc.timeout, plc.area, plc.health) == (7.0, "hall-2", False)


def test_a_secret_for_each_machine(tmp_path: Path) -> None:
    """The name of a secret may hold a column; a password in the list itself is warned of and never shown."""
    canary = "c4n4ry-77"
    (tmp_path / "secrets.yaml").write_text(f"plc-1: {canary}\n")
    (tmp_path / "secrets.yaml").chmod(0o640)
    text = """\
machines:
  "{name}":
    from: meters.csv
    driver: opcua
    url: opc.tcp://{ip}:4840
    security: {username: edge, password: PASSWORD}
    tags: {a: {node: "ns=2;s=a"}}
"""
    made = machines(tmp_path, text.replace("PASSWORD", '!secret "{name}"'), "name,ip\nplc-1,10.0.0.1\n")
    assert made["plc-1"].security.password.get_secret_value() == canary
    (tmp_path / "meters.csv").write_text(
        f"name,ip,password\nplc-1,10.0.0.1,{canary}\nplc 2,10.0.0.2,{canary}\n"
    )
    (tmp_path / "agent.yaml").write_text(HEAD + text.replace("PASSWORD", '"{password}"'))
    result = check([tmp_path / "agent.yaml"], env={})
    assert {problem.code for problem in result.problems} == {"W303", "W321", "E111"}
    assert canary not in result.text(source=True) + repr(result) + str(result.to_json())


def test_three_hundred_machines_in_a_second(tmp_path: Path) -> None:
    """300 meters of 20 tags from a list are checked within a second of CPU time, imports left out."""
    rows = "".join(f"m-{n},10.1.{n // 250}.{n % 250},{n % 240 + 1},{n},A\n" for n in range(300))
    (tmp_path / "meters.csv").write_text("name,ip,unit,label,hall\n" + rows)
    (tmp_path / "agent.yaml").write_text(HEAD + METERS)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        assert check([tmp_path / "agent.yaml"], env={}).files[0].summary.machines == 300  # type: ignore[union-attr]
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 1.0


def test_a_list_in_an_included_file(tmp_path: Path) -> None:
    """The list is looked for beside the file that names it."""
    (tmp_path / "north").mkdir()
    (tmp_path / "north/meters.csv").write_text("name,ip,unit,label,hall\nm,10.0.0.1,7,L,A\n")
    (tmp_path / "north/m.yaml").write_text(METERS)
    assert list(machines(tmp_path, "include: [north/m.yaml]\n")) == ["m"]


def test_rows_that_are_wrong_keep_the_others_checked(tmp_path: Path) -> None:
    """A mistake in the template is said once, at the template, and one in a cell at the cell."""
    (tmp_path / "meters.csv").write_text("name,ip,unit,label,hall\na,10.0.0.1,1,L,A\nb,10.0.0.2,900,L,A\n")
    (tmp_path / "agent.yaml").write_text(HEAD + METERS + "    every: 5\n")
    said = [(Path(p.file).name, p.line, p.code) for p in load(tmp_path / "agent.yaml", env={}).problems]
    assert ("meters.csv", 3, "E110") in said
    assert [code for file, _, code in said if file == "agent.yaml"].count("E109") == 1
