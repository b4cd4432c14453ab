"""Every bundled device profile: valid, sourced, planned within its own rules, and true to worked examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent import registry
from edge_agent.settings.check import check
from edge_agent.settings.nodes import plain
from edge_agent.settings.profiles import ELSEWHERE, FACTS, bundled
from edge_agent.settings.translate import translate
from edge_agent.types import Kind, Reason, Value
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.columns import plan_groups
from edge_agent_drivers.modbus.plan import coalesce
from edge_agent_drivers.modbus.profile import Profile
from edge_agent_drivers.modbus.ranges import AddressRange
from edge_agent_drivers.modbus.settings import ModbusMachine
from tests.drivers.profiled import answering, driver, holding, machine
from tests.drivers.stage import Liar, by_name, missing

NAMES = registry.profile_names("modbus")
README = Path(__file__).parents[2] / "drivers" / "README.md"
PARAMS: Mapping[str, str] = dict.fromkeys(("eurotherm-3200", "omron-e5"), "params: {decimals: 1}")
"""What a profile needs of the engineer."""
UNITS = {
    "V", "A", "W", "kW", "VA", "kVA", "var", "kvar", "Hz", "kHz", "kWh", "Wh", "h", "%", "rpm", "Nm", "bar",
    "m³/h", "°C", "mm/s",
}  # fmt: skip


def profile(name: str) -> Profile:
    return Profile.model_validate(plain(bundled("modbus", name)))


def test_the_sixteen_families_are_there() -> None:
    """All families that were asked for have a profile."""
    assert set(NAMES) >= {
        "eastron-sdm630", "schneider-pm5000", "siemens-pac", "carlo-gavazzi-em", "janitza-umg96",
        "danfoss-vlt", "abb-acs", "schneider-altivar", "siemens-sinamics", "kaeser-sigma2", "omron-e5",
        "eurotherm-3200", "grundfos-cim", "banner-qm42", "ifm-al1342", "moxa-iologik", "wago-750",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_valid_and_says_where_it_is_from(name: str) -> None:
    """It fits the model, cites documents, claims no hardware, and says what is not known."""
    tree = bundled("modbus", name)
    try:
        made = Profile.model_validate(plain(tree))
    except ValidationError as error:
        pytest.fail("\n".join(str(p) for p in translate(error, tree, Profile, tree.place)))
    assert made.verified in ("manual", "transcription")
    assert made.verified == "transcription" or any(source.kind == "manual" for source in made.source)
    assert all(source.url.startswith("http") and source.version for source in made.source)
    assert made.not_known
    # By type, so that a machine changes one and keeps the others.
    assert isinstance(made.byte_order, dict)
    assert made.byte_order


def test_a_profile_says_only_what_a_machine_may_say() -> None:
    """Every key of a profile is a fact for people, or arrives in the machine under a name it has."""
    for key in Profile.model_fields.keys() - FACTS:
        assert ELSEWHERE.get(key, (key,))[0] in ModbusMachine.model_fields, key


@pytest.mark.parametrize("name", NAMES)
def test_names_and_units_are_the_same_over_all_families(name: str) -> None:
    """Tags are named in one style with units of one list, so that dashboards fit every family."""
    for tag, settings in profile(name).tags.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", tag), tag
        assert settings.unit is None or settings.unit in UNITS, (tag, settings.unit)
        assert settings.label, tag
        if settings.unit in ("kWh", "Wh"):
            assert settings.kind is Kind.COUNTER, tag


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("driver_key", ["driver: modbus, ", ""])
def test_a_machine_with_the_profile_and_a_url_passes_check(
    name: str, driver_key: str, tmp_path: Path
) -> None:
    """Profile and url are enough, with and without `driver`; all that may be said is a missing parameter."""
    path = tmp_path / "agent.yaml"
    path.write_text(f"site: s\nmachines:\n  m: {{{driver_key}profile: {name}, url: tcp://10.0.0.1}}\n")
    result = check([path], env={})
    assert result.exit_code == 0, result.text()
    made = profile(name)
    scaled = {tag for param in made.params.values() if param.default is None for tag in param.scales}
    left = [tag.tag(key, tag.wire_type).kind for key, tag in made.tags.items() if key not in scaled]
    expected = ["W311"] if scaled else []
    if Kind.MEASUREMENT not in left:
        expected.append("W306" if left else "W305")
    assert sorted(problem.code for problem in result.problems) == sorted(expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_request_breaks_the_profiles_own_rules(name: str, tmp_path: Path) -> None:
    """Every planned request is short enough, asks only for declared registers, and arms no watchdog."""
    settings = machine(tmp_path, f"profile: {name}, {PARAMS.get(name, 'label: m')}")
    limits = settings.limits
    declared = {
        (tag.address.table, tag.address.on_wire(settings.address_base) + i)
        for tag in settings.tags.values()
        for i in range(tag.count)
    }
    allowed = declared | addresses(settings, settings.readable)
    never = addresses(settings, settings.never_read)
    for plan in plan_groups(settings):
        for block in coalesce(plan.spans, limits):
            asked = {(block.table, block.address + i) for i in range(block.count)}
            assert block.count <= settings.max_registers
            assert asked <= allowed
            assert not asked & never


def addresses(settings: ModbusMachine, stretches: Sequence[AddressRange]) -> set[tuple[Table, int]]:
    return {
        (one.table, address) for one in stretches for address in range(*one.on_wire(settings.address_base))
    }


def test_no_gap_is_bridged_over_registers_that_arm_a_watchdog(tmp_path: Path) -> None:
    """However wide a gap may be: the drive would trip as soon as the agent stops."""
    keys = "profile: siemens-sinamics, profile_tags: [], max_gap: 60, max_registers: 100"
    keys += ', tags: {below: {address: "holding:98"}, above: {address: "holding:121"}}'
    settings = machine(tmp_path, keys)
    blocks = [block for plan in plan_groups(settings) for block in coalesce(plan.spans, settings.limits)]
    assert [(block.address, block.count) for block in blocks] == [(97, 1), (120, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_profile_is_in_the_readme(name: str) -> None:
    """The table of families names every profile."""
    assert f"`{name}`" in README.read_text(encoding="utf-8")


def test_drives_say_what_silence_does() -> None:
    """Every drive and controller that may trip when nobody talks to it says so."""
    for name in ("danfoss-vlt", "abb-acs", "abb-acs355", "schneider-altivar", "siemens-sinamics",
                 "kaeser-sigma2", "wago-750"):  # fmt: skip
        assert profile(name).comm_watchdog is not None, name


EXAMPLES: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Value]]] = {
    # Eastron's protocol description: phase 1 voltage, 230.2.
    "eastron voltage": (
        "profile: eastron-sdm630, profile_tags: [voltage_l1]",
        {"04 0000 0002": "04 04 43 66 33 34"},
        {"voltage_l1": 230.2},
    ),
    # FC 102 design guide, p. 145: 3-03 is 1,500.000, and register 1000 is asked for as 0x03E7.
    "danfoss maximum reference": (
        "profile: danfoss-vlt, profile_tags: [reference_maximum]",
        {"03 0BD5 0002": "03 04 00 16 E3 60"},
        {"reference_maximum": 1500.0},
    ),
    "danfoss register 1000": (
        "profile: danfoss-vlt, profile_tags: [configuration_mode]",
        {"03 03E7 0001": "03 02 00 01"},
        {"configuration_mode": 1},
    ),
    # FC 102 design guide, p. 145: 1-24 at 0x04D7, 0x02E2 is 7.38 A.
    "danfoss rated current": (
        "profile: danfoss-vlt, profile_tags: [motor_current_rated]",
        {"03 04D7 0002": "03 04 00 00 02 E2"},
        {"motor_current_rated": 7.38},
    ),
    # VW3 A3 303, p. 27: words 3102 to 3105 in one request.
    "altivar words 3102 to 3105": (
        "profile: schneider-altivar, profile_tags: [switching_frequency, frequency_maximum, frequency_high, "
        "frequency_low]",
        {"03 0C1E 0004": "03 08 0028 0258 01F4 0000"},
        {"switching_frequency": 4.0, "frequency_maximum": 60.0, "frequency_high": 50.0, "frequency_low": 0.0},
    ),
    # UMG 96-PA, p. 57: the request. Its answer is no float, so this one is 230 as IEEE 754 has it.
    "janitza request": (
        "profile: janitza-umg96, profile_tags: [voltage_l1]",
        {"03 4A38 0002": "03 04 43 66 00 00"},
        {"voltage_l1": 230.0},
    ),
    # E5CN manual, p. 5-8: 105.0 is read as 0x041A.
    "omron process value": (
        "profile: omron-e5, params: {decimals: 1}, profile_tags: [process_value]",
        {"03 2000 0001": "03 02 04 1A"},
        {"process_value": 105.0},
    ),
}
"""What is configured, the bytes of the worked example, and the values it gives."""


@pytest.mark.parametrize("name", EXAMPLES)
async def test_worked_example(name: str, tmp_path: Path) -> None:
    """The manual's request goes out and the manual's answer becomes the manual's value."""
    keys, answers, expected = EXAMPLES[name]
    async with Liar(answering(answers)) as device:
        reader = driver(tmp_path, keys, device.port)
        await reader.connect()
        found: dict[str, Any] = {}
        for group in reader.groups:
            found |= by_name(await reader.read(group))
        await reader.close()
        asked = [request[7:12] for request in device.requests]
    assert asked == [bytes.fromhex(request) for request in answers]
    assert {tag: value for tag, (value, _) in found.items()} == pytest.approx(expected, rel=1e-6)


async def test_what_a_pump_does_not_have_is_no_value(tmp_path: Path) -> None:
    """Grundfos: 0xFFFF is "not available" in one register and in two, and never 6553.5."""
    async with Liar(holding(300, "FFFF" * 40)) as device:
        reader = driver(tmp_path, "profile: grundfos-cim", device.port)
        await reader.connect()
        found = by_name(await reader.read(reader.groups[0]))
        await reader.close()
    assert set(found.values()) == {missing(Reason.INVALID_VALUE)}


async def test_banner_example(tmp_path: Path) -> None:
    """The example's twelve bytes from register 16 on: 0.108 mm/s, 25.9 °C, 0.182 mm/s."""
    async with Liar(holding(16, "00 2E 00 6C 06 25 02 06 00 47 00 B6")) as device:
        reader = driver(tmp_path, "profile: banner-qm42", device.port)
        await reader.connect()
        found = by_name(await reader.read(reader.groups[0]))
        await reader.close()
    assert {tag: value for tag, (value, _) in found.items()} == pytest.approx(
        {"velocity_rms_z": 0.108, "temperature": 25.9, "velocity_rms_x": 0.182}
    )
