"""Words for people on standard error, results on standard output; both at once, never buffered."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap


def say(text: str) -> None:
    """Tell the person at the terminal, whose lines are broken between words."""
    if sys.stderr.isatty():
        text = "\n".join(_wrapped(line) for line in text.split("\n"))
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _wrapped(line: str) -> str:
    width = max(20, shutil.get_terminal_size().columns - 1)
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def show(text: str) -> None:
    """Print a result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(text: str) -> None:
    """Replace the last line of progress on a terminal; nothing on a pipe. Empty text clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def attended() -> bool:
    """Whether somebody sits there who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def confirmed(question: str) -> bool:
    """Ask yes or no; no is the default, and the end of input means no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    # Not in a thread, which would wait for Enter after Ctrl-C.
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
