"""`browse opcua`: the variables of a server, ready to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent.contracts.plugs import Ask
from edge_agent.errors import DeviceRefused
from edge_agent.settings.load import load
from edge_agent_drivers.opcua import tree
from tests.drivers.stage import OpcuaFactory, Press
from tests.support.nodeopcua import NodeOpcuaServer

GIVEN: Mapping[str, Any] = {
    "root": "i=85", "pattern": None, "depth": 10, "most": 1000, "values": True, "json_output": True,
}  # fmt: skip


async def browse(ask: Ask, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, Any, str]:
    code = await tree.browse(ask, "opc.tcp://h:4840", **{**GIVEN, **options})
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def passes_check(folder: Path, machine: str) -> None:
    path = folder / "agent.yaml"
    path.write_text(f"site: s\n{machine}\n")
    problems = [str(problem) for problem in load(path).errors]
    assert not problems, machine


async def test_a_server_that_shares_no_code_with_us(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """node-opcua: node ids with namespace URI, types, values; text and bools are said; YAML passes check."""
    node_opcua.set("Temperature", 31.5)
    driver = opcua(node_opcua.url, {})
    await driver.connect()
    code, found, _ = await browse(driver.ask, capsys)
    assert code == 0
    by_path = {one["path"]: one for one in found["variables"]}
    temperature = by_path["Press/Temperature"]
    assert temperature["node"] == "nsu=urn:plant:node;s=Press.Temperature"
    assert (temperature["type"], temperature["value"]) == ("Double", 31.5)
    assert by_path["Press/Profile"]["array"]
    assert by_path["Press/Profile"]["length"] == 3
    assert not [path for path in by_path if path.startswith("Server/")], "the server's own objects"
    for line in (
        "# Press/Temperature: Double, 31.5",
        'Temperature: {node: "nsu=urn:plant:node;s=Press.Temperature"}',
        'Running: {node: "nsu=urn:plant:node;s=Press.Running", type: bool}',
        'Order: {node: "nsu=urn:plant:node;s=Press.Order", type: string}',
        'Profile: {node: "nsu=urn:plant:node;s=Press.Profile", length: 3}',
    ):
        assert line in found["yaml"]
    passes_check(tmp_path, found["yaml"])


async def test_units_and_ranges_of_an_asyncua_server(
    press: Press, opcua: OpcuaFactory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An AnalogItem brings its engineering range; properties are no variables of the machine."""
    driver = opcua(press.url, {})
    await driver.connect()
    _, found, _ = await browse(driver.ask, capsys, pattern="press/temp*")
    assert [one["path"] for one in found["variables"]] == ["press/Temperature"]
    assert found["variables"][0]["range"] == [0.0, 120.0]
    assert "range: [0, 120]" in found["yaml"]
    _, everything, _ = await browse(driver.ask, capsys)
    assert len(everything["variables"]) == 5
    passes_check(tmp_path, everything["yaml"])


async def test_bounds_are_kept_and_said(
    press: Press, opcua: OpcuaFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """With too many variables, or too deep a tree, a part is shown, and that it is a part."""
    driver = opcua(press.url, {})
    await driver.connect()
    code, found, said = await browse(driver.ask, capsys, most=2)
    assert (code, len(found["variables"])) == (0, 2)
    assert "Not all" in said
    code, found, said = await browse(driver.ask, capsys, depth=1)
    assert (code, found["variables"]) == (1, [])
    assert "below depth 1" in said


async def test_a_root_that_is_not_there(
    press: Press, opcua: OpcuaFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown node, an unknown namespace and a node id that is none are said; the session lives on."""
    driver = opcua(press.url, {})
    await driver.connect()
    for root, code, word in (
        ("i=99999", 1, "no node"),
        ("nsu=urn:nowhere;s=a", 1, "no namespace"),
        ("Press", 2, "not a node id"),
    ):
        assert (await browse(driver.ask, capsys, root=root))[0] == code
        assert word in (await browse(driver.ask, capsys, root=root))[2]
    with pytest.raises(DeviceRefused):
        await driver.ask({"do": "write", "nodes": ["i=85"]})
    assert (await browse(driver.ask, capsys))[0] == 0


class Forest:
    """A server in memory: 3 folders of 40 variables each with the same names, and a loop back to the top."""

    def __init__(self) -> None:
        self.questions: list[Mapping[str, Any]] = []

    async def ask(self, question: Mapping[str, Any]) -> Any:
        self.questions.append(question)
        if question["do"] == "details":
            detail = {"exists": True, "type": "Double", "array": False, "readable": True}
            return {"details": [{**detail, "unit": "true", "range": None} for _ in question["nodes"]]}
        return {"children": [self._below(node) for node in question["nodes"]]}

    def _below(self, node: str) -> list[dict[str, Any]]:
        if node == "i=85":
            names = [(f"ns=2;s=Line {i}", f"Line {i}", False) for i in range(3)]
        elif node.startswith("ns=2;s=Line") and "/" not in node:
            names = [(f"{node}/{i}", f"Temp. {i}", True) for i in range(40)] + [("i=85", "Objects", False)]
        else:
            names = []
        return [{"node": n, "name": name, "namespace": 2, "variable": leaf} for n, name, leaf in names]


async def test_large_and_looping_servers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every node once; questions stay small; names that several variables have get their folder's."""
    forest = Forest()
    code, found, _ = await browse(forest.ask, capsys)
    assert (code, len(found["variables"]), found["visited"]) == (0, 120, 124)
    assert max(len(question["nodes"]) for question in forest.questions) <= 25
    assert "Line_0.Temp._7: {" in found["yaml"]
    assert 'unit: "true"' in found["yaml"]
    passes_check(tmp_path, found["yaml"])


async def test_the_same_path_twice(tmp_path: Path) -> None:
    """Browse names need not be unique: the second gets a number, and the YAML has no key twice."""
    details = {"type": "Double", "array": False, "readable": True, "unit": None, "range": None}
    twins = [tree.Variable(f"ns=2;i={i}", ("Line", "Speed"), details) for i in range(3)]
    passes_check(tmp_path, "\n".join(tree.yaml_lines("opc.tcp://h:4840", twins)))


async def test_what_cannot_be_a_tag_is_a_comment(tmp_path: Path) -> None:
    """Dates, structures and nodes this user may not read are shown with the reason, outside of the YAML."""
    details = {"array": False, "readable": True, "unit": None, "range": None}
    found = [
        tree.Variable("i=1", ("Made",), {**details, "type": "DateTime"}),
        tree.Variable("i=2", ("Axis",), {**details, "type": "Structure"}),
        tree.Variable("i=3", ("Recipe",), {**details, "type": "Double", "readable": False}),
    ]
    lines = tree.yaml_lines("opc.tcp://h:4840", found)
    assert all(line.strip().startswith("#") for line in lines[-6:])
    for line, why in zip(lines[-6::2], ("only numbers", "field: NAME", "not readable"), strict=True):
        assert why in line
    passes_check(tmp_path, "\n".join(lines))
