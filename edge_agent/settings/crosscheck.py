"""What no single key can know: names that refer to each other, and things that get into each other's way."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from edge_agent.contracts.settings import MachineSettings
from edge_agent.expressions import ExpressionError, parse
from edge_agent.settings import connections
from edge_agent.settings.models import Configuration
from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode, text_of
from edge_agent.settings.problems import Problem, at, did_you_mean
from edge_agent.settings.urls import BROKER, host_and_port, split_address

RESERVED = frozenset({"enterprise", "site", "area", "line", "machine", "tag", "time"})
"""What a tag cannot be named: a field named like a tag of InfluxDB comes back mangled (DECISIONS 18)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_INFLUX_ONLY = ("url", "api", "org", "bucket", "token", "database", "username", "password")


def of_machines(root: MapNode) -> Iterator[Problem]:
    """Names and references of every machine, whether or not the rest of it could be read."""
    machines = root.get("machines")
    if not isinstance(machines, MapNode) or not machines.entries:
        if machines is None or isinstance(machines, MapNode):
            place = root.entries["machines"].key.place if "machines" in root.entries else root.place
            yield at(place, "W305", "there are no machines", "add one below machines:")
        return
    for name, entry in machines.entries.items():
        yield from _machine_name(name, entry)
        if isinstance(entry.value, MapNode):
            yield from _machine(entry.value, entry.key.place)
    yield from connections.of_ports(root)


def _machine_name(name: str, entry: Entry) -> Iterator[Problem]:
    place = entry.key.place
    if name.startswith("_"):
        yield at(
            place, "E202", f"a machine cannot be named '{name}'", "names with _ first are the agent's own"
        )
    elif not _NAME.fullmatch(name) or len(name) > 128:
        hint = "letters, digits, _ - and . (the last two not first); what is on the door goes into `label`"
        yield at(place, "E111", f"a machine cannot be named '{name}'", hint)


def _machine(node: MapNode, place: Place) -> Iterator[Problem]:
    tags = node.get("tags")
    names = tag_names(node)
    if isinstance(tags, MapNode):
        for tag, entry in tags.entries.items():
            if tag in RESERVED:
                hint = f"e.g. {tag}_value; InfluxDB would mix it up with its own"
                yield at(entry.key.place, "E202", f"a tag cannot be named '{tag}'", hint)
            if isinstance(entry.value, MapNode):
                yield from _tag(entry.value, names)
    if not names and (tags is None or isinstance(tags, MapNode)):
        yield at(place, "W305", "this machine has no tags", "add what is to be read below tags:")
    health = node.get("health")
    if isinstance(health, MapNode):
        yield from _health(health, names, set(_texts_among(tags)))


def tag_names(node: MapNode) -> list[str]:
    """The tags of a machine, and what is made of them: named bits, texts, rates."""
    names: list[str] = []
    for tag, entry in _entries(node.get("tags")):
        names += _parts(tag, entry.value) or [tag]
        if isinstance(entry.value, MapNode):
            names += _derived(tag, entry.value)
    return names


def _derived(tag: str, node: MapNode) -> Iterator[str]:
    if "enum" in node.entries:
        yield f"{tag}.text"
    if "rate" in node.entries:
        yield f"{tag}.rate"
    for _, bit in _entries(node.get("bits")):
        name = text_of(bit.value.get("name")) if isinstance(bit.value, MapNode) else text_of(bit.value)
        if name is not None:
            yield f"{tag}.{name}"
            if isinstance(bit.value, MapNode) and "enum" in bit.value.entries:
                yield f"{tag}.{name}.text"


def _parts(tag: str, entry: Node) -> list[str]:
    """The tags one OPC UA node becomes instead: elements of an array, fields of a structure."""
    if not isinstance(entry, MapNode) or not (entry.get("node") or entry.get("browse")):
        return []
    length, fields = entry.get("length"), entry.get("fields")
    if isinstance(length, ScalarNode) and isinstance(length.value, int):
        return [f"{tag}.{index}" for index in range(min(length.value, 1000))]
    if isinstance(fields, ListNode):
        return [f"{tag}.{item.text}" for item in fields.items if isinstance(item, ScalarNode)]
    return []


def _entries(node: Node | None) -> list[tuple[str, Entry]]:
    return list(node.entries.items()) if isinstance(node, MapNode) else []


def _tag(node: MapNode, names: list[str]) -> Iterator[Problem]:
    unit = text_of(node.get("unit"))
    if unit is not None and re.fullmatch(r"\s*\d+(\.\d+)?\s*", unit):
        yield number_as_unit(node.entries["unit"].value.place, unit)
    bits = [entry.value for _, entry in _entries(node.get("bits"))]
    for part in (node, *(bit for bit in bits if isinstance(bit, MapNode))):
        for key in ("limits", "alarm"):
            condition = part.get(key, "active_when")
            if condition is not None:
                yield from _condition(condition, names)


def number_as_unit(place: Place, unit: str) -> Problem:
    """`unit: 1` at a tag is a Modbus unit id in the wrong place."""
    hint = "the number of the device is `unit_id` of the machine; a tag's unit is like mm/s"
    return at(place, "E205", f"the unit of a tag cannot be {unit}", hint)


def _texts_among(tags: Node | None) -> Iterator[str]:
    """The tags that are text: no number for the health model."""
    for tag, entry in _entries(tags):
        if isinstance(entry.value, MapNode):
            if text_of(entry.value.get("type")) == "string":
                yield tag
            yield from (name for name in _derived(tag, entry.value) if name.endswith(".text"))


def _health(health: MapNode, names: list[str], texts: set[str]) -> Iterator[Problem]:
    condition = health.get("running_when")
    if condition is not None:
        yield from _condition(condition, names)
    lists = {key: _texts(health.get(key)) for key in ("tags", "context")}
    for key, items in lists.items():
        for item in items:
            if item.text not in names:
                # Context only explains: without it health is judged less well, and is still judged.
                yield _no_tag(item.place, item.text, names, code="E204" if key == "tags" else "W309")
            elif item.text in texts:
                number = item.text.removesuffix(".text")
                hint = f"write {number}" if number in names and number != item.text else "remove it"
                yield at(item.place, "E113", f"'{item.text}' is text, and health takes numbers", hint)
    judged = {item.text for item in lists["tags"]}
    for item in lists["context"]:
        if item.text in judged:
            hint = "a context tag explains the others and is not judged itself; remove it from one of the two"
            yield at(item.place, "W308", f"'{item.text}' is both in tags and in context", hint)


def _texts(node: Node | None) -> list[ScalarNode]:
    items = node.items if isinstance(node, ListNode) else []
    return [item for item in items if isinstance(item, ScalarNode) and isinstance(item.value, str)]


def _condition(node: Node, names: list[str]) -> Iterator[Problem]:
    text = text_of(node)
    if text is None or not isinstance(node, ScalarNode):
        return
    try:
        expression = parse(text)
    except ExpressionError:
        # Said where the model was checked.
        return
    for tag, column in expression.columns.items():
        if tag not in names:
            file, line, start = node.place
            lead = column if not node.plain else column - 1
            yield _no_tag(Place(file, line, start + lead), tag, names)


def _no_tag(place: Place, tag: str, names: list[str], code: str = "E204") -> Problem:
    hint = did_you_mean(tag, names)
    if not hint and len(names) <= 12:
        hint = f"its tags are {', '.join(names)}" if names else "the machine has none"
    return at(place, code, f"this machine has no tag '{tag}'", hint)


def of_plant(root: MapNode, top: Configuration) -> Iterator[Problem]:
    """Historian, broker and web: what they need, and whether they get into each other's way."""
    historian = root.get("historian")
    if isinstance(historian, MapNode):
        yield from _historian(historian, root, top)
    confirm = root.get("mqtt", "confirm")
    if top.mqtt.confirm == "historian" and top.historian.kind == "none" and confirm is not None:
        hint = "write broker, or set up a historian"
        yield at(confirm.place, "E208", "there is no historian that could confirm", hint)
    yield from _web(root, top)


def _historian(node: MapNode, root: MapNode, top: Configuration) -> Iterator[Problem]:
    settings = top.historian
    place = root.entries["historian"].key.place
    if settings.kind != "influxdb":
        for key in _INFLUX_ONLY:
            if key in node.entries:
                hint = "set kind: influxdb, or remove it"
                yield at(
                    node.entries[key].key.place,
                    "W307",
                    f"'{key}' has no effect with kind: {settings.kind}",
                    hint,
                )
        if settings.kind == "none" and "retention" in node.entries:
            hint = "choose a kind of historian, or remove it"
            yield at(
                node.entries["retention"].key.place, "W307", "'retention' has no effect with kind: none", hint
            )
        return
    if settings.api == "v2" and "retention" in node.entries:
        hint = "set the bucket's retention in InfluxDB; it works with api: v1 and kind: embedded"
        yield at(node.entries["retention"].key.place, "E112", "not yet: 'retention' with api: v2", hint)
    needed = "bucket" if settings.api == "v2" else "database"
    if getattr(settings, needed) is None:
        other = "database" if needed == "bucket" else "bucket"
        hint = f"add {needed}: NAME"
        if other in node.entries:
            hint += f", or api: {'v1' if other == 'database' else 'v2'} to use `{other}`"
        yield at(place, "E208", f"InfluxDB with api: {settings.api} needs a {needed}", hint)


def _web(root: MapNode, top: Configuration) -> Iterator[Problem]:
    if top.web is False:
        return
    listen = root.get("web", "listen")
    place = listen.place if listen else root.place
    host, port = split_address(top.web.listen)
    if not _loopback(host):
        hint = "write 127.0.0.1; the network needs web.users, which come with the dashboard"
        yield at(place, "E207", f"{host} is open to the network, and there are no users", hint)
    others: Mapping[str, str] = {"mqtt.url": top.mqtt.url, "historian.url": top.historian.url}
    for key, url in others.items():
        if url == "embedded" or (key == "historian.url" and top.historian.kind != "influxdb"):
            continue
        other_host, other_port = host_and_port(url, BROKER.get(urlsplit(url).scheme, 8086))
        if _loopback(other_host) and other_port == port:
            yield at(place, "E210", f"port {port} is also that of {key}", "choose another, e.g. 8420")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def of_fields(root: MapNode, machines: Mapping[str, MachineSettings]) -> Iterator[Problem]:
    """One storage type for each field of a measurement, over all machines."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for name, machine in machines.items():
        for tag, settings in machine.tags.items():
            stored = _stored(settings)
            if stored is None:
                continue
            first, first_stored = seen.setdefault((machine.measurement, tag), (name, stored))
            if first_stored != stored:
                entry = root.get("machines", name, "tags")
                place = entry.entries[tag].key.place if isinstance(entry, MapNode) else root.place
                message = (
                    f"'{tag}' is stored as {stored} here and as {first_stored} by '{first}' in the same "
                    f"measurement, '{machine.measurement}'"
                )
                yield at(place, "E206", message, "rename one, give it the same `store`, or set `measurement`")


def _stored(tag: object) -> str | None:
    store, type_ = getattr(tag, "store", None), getattr(tag, "type", None)
    if store is not None:
        return str(store)
    return "string" if type_ == "string" else "float"
