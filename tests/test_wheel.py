"""The wheel, in a clean virtual environment somewhere else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.test_demo import check_story, run_demo

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_packages_read(wheel: Path) -> None:
    """Scenarios, maps, device profiles, the demo's YAML, type markers travel in the wheel; tests do not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "edge_agent/demo/demo.yaml" in names
    assert "edge_agent_simulators/scenarios/demo.yaml" in names
    assert "edge_agent_simulators/maps/pump.yaml" in names
    assert "edge_agent_drivers/py.typed" in names
    assert "edge_agent_drivers/profiles/eastron-sdm630.yaml" in names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.alone
def test_the_wheel_runs_the_demo_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """`pip install` of locked requirements and the wheel into a new venv; then the demo, from elsewhere."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements" / "runtime.txt")], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    code, document, _ = run_demo([str(tmp_path / "venv" / "bin" / "edge-agent")], tmp_path)
    check_story(code, document, tmp_path)
