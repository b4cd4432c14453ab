"""The JSON Schema of a configuration file, for editors: generated from the models that check it.

Editors know draft 7 (yaml-language-server), so newer keywords are written as it has them. What depends on
several keys at once, on other files or on what a text means is left to `check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from edge_agent import registry
from edge_agent.contracts.settings import MachineSettings
from edge_agent.settings import shape
from edge_agent.settings.defaults import ALL, OWN
from edge_agent.settings.models import Configuration

Schema = dict[str, Any]
EXAMPLES: Mapping[str, list[Any]] = {
    "site": ["ulsteinvik"],
    "unit": ["mm/s", "°C", "kWh"],
    "running_when": ["motor_current > 2.5"],
    "active_when": ["running"],
    "scan": ["fast", "normal", "slow"],
    "include": [["machines/*.yaml"]],
    "profile": ["eastron-sdm630", "./mine.yaml"],
    "label": ["Feed pump 1, north hall"],
    "action": ["Stop the pump, check the filter"],
    "range": [[0, 25]],
    "listen": ["127.0.0.1:8420"],
    "node": ["ns=2;s=Pump.Speed"],
    "deadband": [0.2, "1%"],
}
"""Key -> what may stand there, where the model gives no example."""
_URLS: Mapping[str, list[str]] = {
    "modbus": ["tcp://10.0.4.21:502", "rtu:///dev/ttyUSB0?baudrate=19200&parity=E"],
    "opcua": ["opc.tcp://10.0.4.30:4840"],
}


def schema() -> Schema:
    """The schema of a whole configuration file."""
    made = _Made()
    top = made.of(Configuration)
    properties = top["properties"]
    machine = _machine(made)
    manifold = _manifold()
    properties["machines"] = {
        "description": "The machines by name; a name with braces stands for many.",
        "type": ["object", "null"],
        "patternProperties": {"\\{": manifold, "^[A-Za-z0-9][A-Za-z0-9_.-]*$": machine},
        "additionalProperties": False,
    }
    properties["defaults"] = _defaults(made)
    properties["web"]["anyOf"].append({"const": "off"})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "edge-agent configuration",
        **top,
        "definitions": made.definitions,
    }


class _Made:
    """The definitions that the schema refers to, each model once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def of(self, model: type[BaseModel], prefix: str = "", *, partial: bool = False) -> Schema:
        """The schema of a model; `partial` where something else brings what it lacks."""
        raw = model.model_json_schema(ref_template=f"#/definitions/{prefix}{{model}}")
        named = {found.__name__: found for found in _reachable(model)}
        for name, definition in raw.pop("$defs", {}).items():
            self.definitions[prefix + name] = _adapted(definition, named.get(name), partial)
        adapted: Schema = _adapted(raw, model, partial)
        return adapted


def _machine(made: _Made) -> Schema:
    """A machine: what else it may say depends on its driver and on whether it has a profile."""
    names = registry.driver_names()
    cases = []
    for driver in names:
        model = registry.driver_settings(driver)
        made.definitions[f"{driver} machine"] = _of_driver(made, model, driver, partial=False)
        is_driver: Schema = {"properties": {"driver": {"const": driver}}, "required": ["driver"]}
        if driver in registry.PROFILES:
            made.definitions[f"{driver} machine with a profile"] = _with_profile(made, model, driver)
            profiled = {"properties": {"driver": {"const": driver}}, "required": ["profile"]}
            cases.append(_case(profiled, f"{driver} machine with a profile"))
            is_driver["not"] = {"required": ["profile"]}
        cases.append(_case(is_driver, f"{driver} machine"))
    return {
        "type": "object",
        "properties": {"driver": {"enum": names, "description": "Which driver reads the machine."}},
        "anyOf": [{"required": ["driver"]}, {"required": ["profile"]}],
        "allOf": cases,
    }


def _case(condition: Schema, name: str) -> Schema:
    return {"if": condition, "then": {"$ref": f"#/definitions/{name}"}}


def _of_driver(made: _Made, model: type[MachineSettings], driver: str, *, partial: bool) -> Schema:
    made_of = made.of(model, f"{driver} {'partial ' if partial else ''}", partial=partial)
    properties = made_of["properties"]
    properties["url"]["examples"] = _URLS.get(driver, [])
    for key in model.OFF:
        if key in properties:
            properties[key] = {"anyOf": [properties[key], {"const": "off"}, {"const": False}]}
    return made_of


def _with_profile(made: _Made, model: type[MachineSettings], driver: str) -> Schema:
    """The profile brings keys and tags: of the machine's own none is missing, and `off` drops a tag."""
    made_of = _of_driver(made, model, driver, partial=True)
    tags = made_of["properties"]["tags"]
    off = {"enum": ["off", False]}
    for places in (tags.get("patternProperties", {}), tags):
        for key, tag in places.items():
            if key == "additionalProperties" or places is not tags:
                places[key] = {"anyOf": [tag, off]} if isinstance(tag, dict) else tag
    made_of["properties"]["tags"] = {"anyOf": [tags, {"type": "null"}]}
    made_of["required"] = ["url"]
    return made_of


def _manifold() -> Schema:
    """A machine that stands for many: any text may have braces, so that only its keys are known."""
    models = [registry.driver_settings(driver) for driver in registry.driver_names()]
    known = sorted({"from", *(key for model in models for key in shape.keys(model))})
    return {
        "type": "object",
        "description": "Many machines: NAME-{1..12} by range, or one for each line `from: FILE.csv`.",
        "properties": {"from": {"type": "string", "examples": ["machines.csv"]}},
        "propertyNames": {"enum": known},
    }


def _defaults(made: _Made) -> Schema:
    """What may stand below all machines, or those of one driver."""
    properties: Schema = {}
    models = {ALL: MachineSettings} | {d: registry.driver_settings(d) for d in registry.driver_names()}
    for name, model in models.items():
        below = _of_driver(made, model, f"default {name}", partial=True)
        for key in OWN:
            below["properties"].pop(key, None)
        made.definitions[f"defaults of {name}"] = below
        properties[name] = {"$ref": f"#/definitions/defaults of {name}"}
    return {
        "type": "object",
        "description": "Keys below those of every machine (all), or of every machine of a driver.",
        "properties": properties,
        "additionalProperties": False,
    }


def _reachable(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model, and all that stand below it."""
    seen: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        found = waiting.pop()
        if found not in seen:
            seen.add(found)
            yield found
            for name in found.model_fields:
                waiting += shape.models_at(found, [shape.spellings(found, name)[0]])
                waiting += shape.models_at(found, [shape.spellings(found, name)[0], "*"])


def _adapted(node: Any, model: type[BaseModel] | None, partial: bool) -> Any:
    """A piece of pydantic's schema as draft 7 and editors want it."""
    if isinstance(node, list):
        return [_adapted(item, None, partial) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _adapted(value, None, partial) for key, value in node.items() if key != "title"}
    if "prefixItems" in result:
        result["items"] = result.pop("prefixItems")
        result["additionalItems"] = False
    if "patternProperties" in result:
        result.setdefault("additionalProperties", False)
    if partial:
        result.pop("required", None)
    if isinstance(default := result.get("default"), dict | list) or (
        result.get("type") == "string" and not isinstance(default, str)
    ):
        # Nested defaults are in the definition; seconds and bytes are not what an engineer writes.
        result.pop("default", None)
    if "$ref" in result and len(result) > 1:
        # In draft 7 nothing counts beside a reference.
        result["allOf"] = [{"$ref": result.pop("$ref")}]
    if isinstance(node.get("description"), str):
        result["description"] = " ".join(node["description"].split())
    if isinstance(node.get("properties"), dict):
        result["properties"] = _properties(node["properties"], model, partial)
    return result


def _properties(properties: Schema, model: type[BaseModel] | None, partial: bool) -> Schema:
    made: Schema = {}
    for key, value in properties.items():
        adapted = _adapted(value, None, partial)
        if key in EXAMPLES and "examples" not in adapted:
            adapted["examples"] = EXAMPLES[key]
        made[key] = adapted
    for name in model.model_fields if model else ():
        first, *others = shape.spellings(model, name) if model else [name]
        for other in others:
            made[other] = {**made[first], "description": f"Another word for `{first}`."}
    return made
