"""Register maps and the YAML that goes with them: what is written is what an agent reads."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from ruamel.yaml import YAML

from edge_agent.errors import ConfigError
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.feeds import PlantFeed, node_values
from edge_agent_simulators.image import RegisterImage
from edge_agent_simulators.instruments import Reading
from edge_agent_simulators.machine_yaml import flow, machine_lines
from edge_agent_simulators.register_map import Entry, RegisterMap, load_map
from edge_agent_simulators.scenario import load_scenario


def stored(written: dict[str, Any], value: Reading, words: int) -> bytes | None:
    image = RegisterImage()
    RegisterMap([Entry.parse("x", {"address": "holding:5", **written})]).bind(image, ["x"])([value])
    return image.words("holding", 5, words)


@pytest.mark.parametrize(
    ("written", "value", "raw"),
    [
        ({}, 300, "012c"),
        ({"type": "int16", "scale": 0.1}, -1.5, "fff1"),
        ({"type": "int16", "scale": 0.5, "offset": 10}, 12.0, "0004"),
        ({"type": "uint32"}, 0x01020304, "01020304"),
        ({"type": "uint32", "byte_order": "CDAB"}, 0x01020304, "03040102"),
        ({"type": "uint32", "byte_order": "BADC"}, 0x01020304, "02010403"),
        ({"type": "uint32", "byte_order": "DCBA"}, 0x01020304, "04030201"),
        ({"type": "float32"}, 1.5, struct.pack(">f", 1.5).hex()),
        ({"type": "float64", "byte_order": "CDAB"}, 1.5, "0000000000003ff8"),
        ({"type": "uint16", "invalid": [0xFFFF]}, None, "ffff"),
        ({"type": "string", "length": 4}, "AB", "41420000"),
    ],
    ids=repr,
)
def test_encodes(written: dict[str, Any], value: Reading, raw: str) -> None:
    """Types, scaling, byte orders, sentinels and strings come out as on the wire."""
    assert stored(written, value, len(raw) // 4) == bytes.fromhex(raw)


def test_a_failed_float_is_nan() -> None:
    """A float without a value is NaN on the wire."""
    raw = stored({"type": "float32"}, None, 2)
    assert raw is not None
    assert math.isnan(struct.unpack(">f", raw)[0])


@pytest.mark.parametrize(
    "written", [{"address": "holding:x"}, {"address": "coils:1"}, {"address": "input:1", "type": "u9"}]
)
def test_refuses_nonsense(written: dict[str, Any]) -> None:
    """An address or type that does not exist is an error that names the tag."""
    with pytest.raises(ConfigError, match="flow"):
        Entry.parse("flow", written)


def test_pump_map_has_gaps_and_every_tag() -> None:
    """Every tag of the pump has a place, and the gaps stay illegal."""
    feed = PlantFeed(load_scenario("pump"), 1, 1.0)
    pump = feed.plant.machines[0]
    assert set(load_map("pump").entries) == set(pump.names)
    image = feed.images[1]
    for address in (116, 119, 41, 123):
        assert image.words("holding", address, 1) is None
    assert image.words("input", 17, 1) is None
    assert image.words("input", 12, 5) is not None
    assert image.words("holding", 100, 16) is not None


def test_pump_image_shows_the_machine() -> None:
    """What stands in the registers is what the machine reads, in both word orders."""
    feed = PlantFeed(load_scenario("pump"), 1, 60.0)
    feed.refresh(8 * 3600.0)
    pump, image = feed.plant.machines[0], feed.images[1]

    def words(address: int, count: int, table: str = "holding") -> bytes:
        raw = image.words(table, address, count)
        assert raw is not None
        return raw

    assert struct.unpack(">f", words(106, 2))[0] == pytest.approx(pump.reading("motor_current"))
    swapped = words(110, 2)
    assert struct.unpack(">f", swapped[2:] + swapped[:2])[0] == pytest.approx(pump.reading("flow"))
    assert struct.unpack(">h", words(12, 1, "input"))[0] / 10 == pytest.approx(
        pump.reading("motor_temperature")
    )
    assert image.bits("coil", 3, 2) == b"\x01"
    assert struct.unpack(">H", words(40, 1))[0] == 0b10_0000_0011
    assert words(200, 8).rstrip(b"\0").startswith(b"EA-PUMP-")


def test_printed_yaml_is_what_the_driver_takes() -> None:
    """The YAML printed for the pump parses, and the Modbus driver's settings accept it."""
    feed = PlantFeed(load_scenario("demo"), 1, 1.0)
    machines = feed.machines("tcp://127.0.0.1:5020", "opc.tcp://127.0.0.1:4840")
    lines = ["machines:"]
    for name, said in machines.items():
        settings = {key: value for key, value in said.items() if key not in ("tags", "health")}
        lines += machine_lines(name, settings, said["tags"], said["health"])
    parsed = YAML(typ="safe", pure=True).load("\n".join(lines))["machines"]
    assert parsed["press-2"] == machines["press-2"]
    pump = ModbusMachine.model_validate(parsed["pump-1"])
    assert pump == ModbusMachine.model_validate(machines["pump-1"])
    assert pump.unit_id == 1
    assert pump.tags["flow"].unit == "m3/h"
    node = parsed["press-2"]["tags"]["oil_temperature"]["node"]
    assert node == "nsu=urn:edge-agent:simulator;s=press-2.OilTemperature"


@pytest.mark.parametrize(
    "value",
    [True, "on", "°C", "%", 'say "x"', "a, b", 0.1, -3, ["a", {"k": "1/min"}], "", "trailing "],
    ids=repr,
)
def test_flow_style_survives_a_parser(value: object) -> None:
    """Whatever is written in flow style is read back the same."""
    assert YAML(typ="safe", pure=True).load(f"[{flow(value)}]") == [value]


def test_only_changed_nodes_are_written() -> None:
    """The second look at unchanged values gives nothing to write."""
    feed = PlantFeed(load_scenario("press"), 1, 60.0)
    before: dict[str, Reading] = {}
    assert "press-2.OilTemperature" in node_values(feed.nodes[0], before)
    assert node_values(feed.nodes[0], before) == {}
    feed.refresh(3600.0)
    assert node_values(feed.nodes[0], before)
