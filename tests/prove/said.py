"""SAID: how soon people and programs hear that a machine is away, and how many words it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.prove.site import STRUCK, Site

SOON = 5.0
"""Seconds within which it must be said everywhere."""
_TOPIC = f"hall/{STRUCK}/alarms/communication"
_UP = f'edge_agent_machine_up{{machine="{STRUCK}"}}'


def cut(site: Site) -> dict[str, float]:
    """Take the struck machine away: where it is said -> after how many seconds. It is back on return."""
    lines = len(_log_lines(site))
    where: dict[str, Callable[[], bool]] = {
        "topic": lambda: _raised(site),
        "metric": lambda: site.metric(_UP) == 0.0,
        "log": lambda: len(_log_lines(site)) > lines,
    }
    site.loop.run(site.proxy.refuse())
    site.loop.call(site.proxy.cut)
    began = time.monotonic()
    said: dict[str, float] = {}
    while len(said) < len(where) and time.monotonic() < began + 4 * SOON:
        for name in where.keys() - said.keys():
            if where[name]():
                said[name] = time.monotonic() - began
        time.sleep(0.02)
    words = len(_log_lines(site)) - lines
    site.loop.run(site.proxy.listen())
    assert len(said) == len(where), f"{where.keys() - said.keys()} do not say that {STRUCK} is away"
    assert words == 1, f"{words} lines in the log, one says it"
    site.flowing(STRUCK)
    return said


def _raised(site: Site) -> bool:
    _at, payload = site.observer.newest.get(_TOPIC, (0.0, b""))
    return bool(payload) and json.loads(payload)["active"] is True


def _log_lines(site: Site) -> list[str]:
    """The log's warnings of the struck machine's line."""
    return [
        line
        for line in site.agent.log.read_text().splitlines()
        if f"{STRUCK}: " in line and "WARNING" in line
    ]
