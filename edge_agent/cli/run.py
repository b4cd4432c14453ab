"""`edge-agent run` and `edge-agent historian`: until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge_agent.cli import slim
from edge_agent.errors import StoreError
from edge_agent.settings.models import Configuration
from edge_agent.settings.state import state_folder

SETTLED = 10.0
"""Seconds after which what only starting needed is given back."""

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(config: Path) -> int:
    """Run the agent of a configuration file until it is told to stop."""
    configuration = _prepare(config)
    from edge_agent.agent import Agent

    return _until_stopped(Agent(configuration).run)


def historian(config: Path, instance: int | None) -> int:
    """Run the historian of a configuration file alone until it is told to stop."""
    configuration = _prepare(config)
    from edge_agent.agent import HistorianProcess

    return _until_stopped(HistorianProcess(configuration, instance).run)


def _prepare(config: Path) -> Configuration:
    _set_up_logging()
    slim.before_threads()
    # numpy's BLAS would take a thread per core, and 30 MB, for matrices of ten columns.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from edge_agent.settings.load import require

    configuration = require(config)
    del require
    _refuse_unusable(state_folder(configuration))
    slim.after_loading()
    return configuration


def _refuse_unusable(state: Path) -> None:
    """StoreError where the state folder is there, and is somebody else's."""
    if state.exists() and not os.access(state, os.W_OK | os.X_OK, effective_ids=True):
        raise StoreError(
            f"{state} cannot be written by user {os.geteuid()}: make it belong to that user, "
            "or set `state:` to another folder"
        )


def _until_stopped(main: Main) -> int:
    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.call_later(SETTLED, slim.after_start)
        await main(stop)

    asyncio.run(body())
    return 0


_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _JournalFormatter(logging.Formatter):
    """No time stamp, which journald has itself, but the priority it sorts by."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=os.environ.get("EDGE_AGENT_LOG", "INFO").upper(), handlers=[handler])
    # The libraries' own running commentary; what matters of it we say ourselves.
    for noisy in ("amqtt", "transitions", "urllib3", "Rx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
