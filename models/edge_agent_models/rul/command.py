"""What `edge-agent rul fit` and `rul predict` do, once the table is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent_models.rul.features import Floats
from edge_agent_models.rul.lives import lives_of, teaching
from edge_agent_models.rul.model import RulModel


def fit(
    unit: Sequence[str], time: Floats, values: Mapping[str, Floats], out: Path, cap: float | None = None
) -> dict[str, Any]:
    """Train in a worker, write the model to `out`; the report. ModelError with the reason where it fails."""
    from edge_agent_models.rul.worker import write_job

    lives = teaching(lives_of(unit, time, values))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edge-agent-rul-") as folder:
        job = Path(folder) / "job.npz"
        write_job(job, lives)
        command = [sys.executable, "-m", "edge_agent_models.rul.worker", str(job), str(out)]
        if cap is not None:
            command.append(repr(cap))
        # It needs to see the same packages, also those that are on the path for this run only.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
        )
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise ModelError(reason[-1] if reason else f"training ended with exit code {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def predict(
    model: Path, unit: Sequence[str], time: Floats, values: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """What is left of each unit at its last row. ModelError where the model cannot be used for it."""
    found = RulModel.load(model).predict(lives_of(unit, time, values))
    return [
        {"unit": one.unit, "rul": round(one.rul, 3), "low": round(one.low, 3), "high": round(one.high, 3)}
        for one in found
    ]
