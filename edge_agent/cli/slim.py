"""Memory is a feature on a Pi: what glibc is told so that a long-running agent stays small."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8


def before_threads() -> None:
    """One malloc arena for all threads: ours take turns, and each arena keeps what it once had."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, 1)


def after_start() -> None:
    """Give back what starting needed and running does not."""
    gc.collect()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc (musl has neither call)."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
