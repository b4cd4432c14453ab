"""`make bench`: what each step of the hot path costs, and what the whole agent takes.

Prints a table, and JSON with --json. CPU seconds of this machine; compare ratios, not machines.
"""

from __future__ import annotations

import argparse
import json

from benchmarks import footprint, hotpath, modbus


def main() -> None:
    """Run the benchmarks and print the results."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    results = [
        *hotpath.run(arguments.repeats),
        *modbus.run(arguments.repeats),
        *footprint.run(arguments.repeats),
    ]
    if arguments.json:
        print(json.dumps([result.__dict__ for result in results]))
        return
    for result in results:
        print(
            f"{result.what:60} {result.median:10.3g} {result.unit:10} ({result.low:.3g} to {result.high:.3g})"
        )


if __name__ == "__main__":
    main()
