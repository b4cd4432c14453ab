"""How well the health model does, with its default settings, on machines it has never seen.

    python -m benchmarks.health --data DIR [--set skab,nab,femto,ims,cmapss,sim] [--json]

DIR (or EDGE_AGENT_DATASETS) has a folder per set. Recorded data is never part of the project: without a
folder a set is skipped with a message. `sim` plays simulated machines and needs no DIR; it takes a while
(`sim-short` is a look). Figures are of development data, unless the folder holds other files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.health import lives, sim, skab, wear

Measure = Callable[[Path | None, Callable[[str], None]], dict[str, Any] | None]
Lines = Callable[[dict[str, Any]], Iterator[str]]

SETS: dict[str, tuple[Measure, Lines]] = {
    "skab": (skab.measure, skab.lines),
    "nab": (wear.nab, wear.nab_lines),
    "femto": (wear.femto, wear.femto_lines),
    "ims": (wear.ims, wear.ims_lines),
    "cmapss": (lives.measure, lives.lines),
    "sim": (sim.measure, sim.lines),
    "sim-short": (sim.measure_some, sim.lines),
}
DEFAULT = tuple(name for name in SETS if name != "sim-short")


def main() -> int:
    """Print the figures; 0 also where every set was skipped, 2 for a set that is not known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with a folder per set")
    parser.add_argument("--set", default=",".join(DEFAULT), help=f"some of {','.join(SETS)}")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asked = parser.parse_args()
    names = asked.set.split(",")
    if unknown := [name for name in names if name not in SETS]:
        parser.error(f"there is no set {', '.join(unknown)}; there is {', '.join(SETS)}")
    found = os.environ.get("EDGE_AGENT_DATASETS")
    root = asked.data or (Path(found) if found else None)
    results = {}
    for name in names:
        measure, lines = SETS[name]
        result = measure(root, _say)
        if result is None:
            print(f"skipped {name}: no files (or no scikit-learn, for cmapss); give --data DIR or set "
                  "EDGE_AGENT_DATASETS", file=sys.stderr)  # fmt: skip
            continue
        results[name] = result
        if not asked.json:
            print("\n".join(lines(result)), flush=True)
    if asked.json:
        print(json.dumps(results, ensure_ascii=False))
    return 0


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"  {what}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
