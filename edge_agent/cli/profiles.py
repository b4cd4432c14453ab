"""`edge-agent profiles`: which devices are known, from which documents, and what is not known of them."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import Any

from edge_agent import registry
from edge_agent.errors import ConfigError
from edge_agent.settings.nodes import plain
from edge_agent.settings.problems import did_you_mean
from edge_agent.settings.profiles import bundled


def profiles(name: str | None, *, json_output: bool) -> int:
    """List the bundled profiles, or show one; ConfigError where there is none of that name."""
    found = {
        each: {"driver": driver, **plain(bundled(driver, each))}
        for driver in registry.PROFILES
        for each in registry.profile_names(driver)
        if name in (None, each)
    }
    if name is not None and name not in found:
        known = [each for driver in registry.PROFILES for each in registry.profile_names(driver)]
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise ConfigError([f"there is no profile '{name}'; {hint}"])
    if json_output:
        print(json.dumps(found, ensure_ascii=False))
    elif name is None:
        _list(found)
    else:
        _show(name, found[name])
    return 0


def _list(found: dict[str, dict[str, Any]]) -> None:
    width = max(map(len, found))
    for name, profile in found.items():
        count, verified = len(profile["tags"]), profile["verified"]
        _print(f"{name:{width}}  {count:3} tags  {verified:13}  {profile['device']}", width + 2)
        _print(f"{'':{width}}  from {profile['source'][0]['document']}", width + 2)


def _print(line: str, indent: int) -> None:
    """Broken between words on a terminal, whole for `| grep`."""
    if sys.stdout.isatty():
        columns = max(40, shutil.get_terminal_size().columns)
        line = textwrap.fill(line, columns, subsequent_indent=" " * indent, drop_whitespace=True)
    print(line)


def _show(name: str, profile: dict[str, Any]) -> None:
    print(f"{name}: {profile['device']}")
    print(f"verified: {profile['verified']}; firmware: {profile['firmware']}")
    for source in profile["source"]:
        pages = f", p. {source['pages']}" if "pages" in source else ""
        print(f"source: {source['document']} ({source['version']}{pages})\n        {source['url']}")
    for key, parameter in profile.get("params", {}).items():
        print(f"params: {key}: {parameter['label']}")
    if watchdog := profile.get("comm_watchdog"):
        print(f"communication watchdog: {watchdog['text']}")
    for title, key in (("note", "notes"), ("not known", "not_known")):
        for line in profile.get(key, []):
            print(f"{title}: {line}")
    base = f" (counted from {profile['address_base']})" if profile.get("address_base") else ""
    print(f"tags{base}:")
    for tag, keys in profile["tags"].items():
        words = [str(keys[key]) for key in ("address", "type", "unit", "label") if key in keys]
        print(f"  {tag}: {', '.join(words)}")
