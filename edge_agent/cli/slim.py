"""Memory is a feature on a Pi: what glibc is told so that a long-running agent stays small."""

from __future__ import annotations

import ctypes
import gc
import linecache
import sys

_M_ARENA_MAX = -8


def before_threads() -> None:
    """One malloc arena for all threads: ours take turns, and each arena keeps what it once had."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, 1)


def after_loading() -> None:
    """Forget the modules that read command line and YAML, before numpy and the rest take their room (2 MB).

    Only the models that the configuration is made of stay. Whoever reads YAML again imports them again.
    """
    kept = ("edge_agent.settings.models", "edge_agent.settings.state", "edge_agent.settings.urls")
    for name in list(sys.modules):
        package = name.split(".")[0]
        if (
            package in ("ruamel", "typer")
            or name.startswith("edge_agent.cli.commands")
            or (name.startswith("edge_agent.settings.") and name not in kept)
        ):
            _forget(name)
    linecache.clearcache()
    gc.collect()


def _forget(name: str) -> None:
    """Drop a module, and its parent's attribute that would keep it."""
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)
    del sys.modules[name]


def after_start() -> None:
    """Give back what starting needed and running does not."""
    gc.collect()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc (musl has neither call)."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
