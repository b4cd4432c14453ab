"""`edge-agent schema`: the JSON Schema of the configuration file, for editors."""

from __future__ import annotations

import json
from pathlib import Path

from edge_agent.settings.schema import schema as make_schema


def schema(out: Path | None) -> int:
    """Print the schema, or write it to `out`."""
    text = json.dumps(make_schema(), ensure_ascii=False, indent=1)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
        print(f"{out}: put this line first in a file: # yaml-language-server: $schema={out}")
    return 0
