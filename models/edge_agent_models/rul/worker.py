"""`python -m edge_agent_models.rul.worker JOB.npz OUT.npz [CAP]`: trains in a process of its own, then ends.

scikit-learn is a hundred megabytes that the agent must never hold, and training must not disturb polling:
this process is nice, its memory is capped, and what it leaves behind is a file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.modelfile import read_arrays
from edge_agent_models.rul.lives import Lives

MEMORY = 3 * 1024**3
_NICE = 15


def main(arguments: list[str]) -> int:
    """Train on a job that `write_job` wrote; the report on standard output as JSON, 1 with the reason."""
    os.nice(_NICE)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard < 0 else min(MEMORY, hard), hard))
    job, out, cap = Path(arguments[0]), Path(arguments[1]), arguments[2:]
    try:
        # Not before: the memory of the imports counts, too, and a failure needs its reason.
        from edge_agent_models.rul.training import train

        training = train(read_job(job), float(cap[0]) if cap else None)
        training.model.save(out, training.report)
    except EdgeAgentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except ModuleNotFoundError as error:
        sys.stderr.write(f"training needs scikit-learn: pip install 'edge-agent[training]' ({error})\n")
        return 1
    except MemoryError:
        sys.stderr.write(f"training took more than {MEMORY // 1024**2} MB: give it fewer rows or columns\n")
        return 1
    sys.stdout.write(json.dumps(training.report) + "\n")
    return 0


def write_job(path: Path, lives: Lives) -> None:
    """What the worker is to learn from."""
    np.savez(
        path, allow_pickle=False, tags=np.array(lives.tags, dtype=np.str_), unit=lives.unit, time=lives.time,
        rows=lives.rows,
    )  # fmt: skip


def read_job(path: Path) -> Lives:
    """The other end of `write_job`."""
    arrays = read_arrays(path)
    return Lives(
        tuple(arrays["tags"].astype(np.str_).tolist()),
        arrays["unit"].astype(np.str_),
        arrays["time"].astype(np.float64),
        arrays["rows"].astype(np.float64),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
