"""`edge-agent check`: all problems at once, and with --connect whether everything answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.settings.check import check as check_files


def check(files: Sequence[Path], *, connect: bool, strict: bool, json_output: bool) -> int:
    """Validate files; 0 or 78 (1 with --strict and warnings), 75 where --connect found something away."""
    result = check_files(list(files), strict=strict)
    away: list[dict[str, Any]] = []
    if connect and result.exit_code != 78:
        from edge_agent.cli.connect import try_connections

        away = asyncio.run(try_connections([c for c in result.configurations if c is not None]))
    if json_output:
        print(json.dumps({**result.to_json(), **({"connections": away} if connect else {})}, ensure_ascii=False))
    else:
        print(result.to_text(color=sys.stdout.isatty()))
        for connection in away:
            print(f"{connection['what']}: {connection['error'] or 'answers'}")
    if result.exit_code:
        return result.exit_code
    return 75 if any(connection["error"] for connection in away) else 0
