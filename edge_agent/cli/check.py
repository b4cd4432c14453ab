"""`edge-agent check`: all problems at once, and with --connect whether everything answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.settings.check import CheckResult
from edge_agent.settings.check import check as check_files


def check(files: Sequence[Path], *, connect: bool, strict: bool, json_output: bool) -> int:
    """Validate files; 0 or 78 (1 with --strict and warnings), 75 where --connect found something away."""
    result = check_files(files, strict=strict)
    connections = _connections(result) if connect and not result.errors else []
    if json_output:
        document = result.to_json()
        if connect:
            document["connections"] = [{"what": what, "error": error or None} for what, error in connections]
        print(json.dumps(document, ensure_ascii=False))
    else:
        print(result.text(source=sys.stdout.isatty()))
        for what, error in connections:
            print(f"  {what}: {error or 'answers'}")
    if result.exit_code:
        return result.exit_code
    return 75 if any(error for _what, error in connections) else 0


def _connections(result: CheckResult) -> list[tuple[str, str]]:
    from edge_agent.cli.connect import try_connections

    found = [file.loaded.configuration for file in result.files if file.loaded.configuration is not None]
    return [answer for configuration in found for answer in asyncio.run(try_connections(configuration))]
