"""Keys that are part of the interface and don't work in this release: refused with a sentence, never ignored.

A key moves out of this table, and into a model, with the work that makes it real.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_agent.settings.nodes import MapNode, ScalarNode
from edge_agent.settings.problems import Problem, at

KEYS: Mapping[str, str] = {
    "notify": "notifications come later; until then alarms are on MQTT and in the historian",
    "oee": "OEE comes later",
    "reload": "reloading while running comes later; until then restart the agent",
    "units": "converting units for display comes later",
    "web.users": "users come with the dashboard; until then listen on 127.0.0.1",
    "web.tls": "TLS comes with the dashboard; until then listen on 127.0.0.1",
    "web.cert_file": "TLS comes with the dashboard; until then listen on 127.0.0.1",
    "web.key_file": "TLS comes with the dashboard; until then listen on 127.0.0.1",
    "web.behind_proxy": "users come with the dashboard; until then listen on 127.0.0.1",
    "mqtt.commands": "commands over MQTT come later",
    "machines.*.offline": "machines that may be off come later; until then their silence is an alarm",
    "machines.*.expected_on": "machines that may be off come later; until then their silence is an alarm",
    "machines.*.powered_when": "machines that may be off come later; until then their silence is an alarm",
    "machines.*.oee": "OEE comes later",
    "machines.*.health.cycle": "features per stroke come later",
    "machines.*.tags.*.limits.preset": "preset limits come later; until then write the limits out",
}
"""Path (`*` is any name) -> what to do until it works."""

VALUES: Mapping[str, tuple[str, str]] = {}
"""Path -> one value that doesn't work yet, and what to do."""


def refuse(root: MapNode) -> list[Problem]:
    """Take what doesn't work yet out of the tree, with one problem for each."""
    problems: list[Problem] = []
    for pattern, sentence in KEYS.items():
        for name, node in _parents(root, pattern):
            entry = node.entries.pop(name)
            problems.append(at(entry.key.place, "E112", f"not yet: '{name}'", sentence))
    for pattern, (value, sentence) in VALUES.items():
        problems += _values(root, pattern, value, sentence)
    return problems


def _values(root: MapNode, pattern: str, value: str, sentence: str) -> Iterator[Problem]:
    for name, node in _parents(root, pattern):
        found = node.entries[name].value
        if isinstance(found, ScalarNode) and found.text == value:
            del node.entries[name]
            yield at(found.place, "E112", f"not yet: '{name}: {value}'", sentence)


def _parents(root: MapNode, pattern: str) -> list[tuple[str, MapNode]]:
    """The mappings that hold the last key of `pattern`, with that key."""
    *path, last = pattern.split(".")
    nodes = [root]
    for key in path:
        found = [
            entry.value
            for node in nodes
            for name, entry in node.entries.items()
            if key in ("*", name) and isinstance(entry.value, MapNode)
        ]
        nodes = found
    # Anchors may bring the same mapping to several machines: it is reported once.
    unique = {id(node): node for node in nodes if last in node.entries}
    return [(last, node) for node in unique.values()]
