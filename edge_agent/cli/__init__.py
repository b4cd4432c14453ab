"""`edge-agent`: the command line is parsed, forgotten, and then the job it asked for runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edge_agent.errors import ConfigError, DeviceUnreachable, EdgeAgentError, TemporaryError

# Pydantic would read the metadata of every installed package in search of plugins, at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

EXIT_FINDINGS = 1
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; the exit code is raised as SystemExit (INTERFACE.md, Commands)."""
    from edge_agent.cli.commands import parse

    try:
        job = parse(arguments)
        del parse
        code = job()
        sys.stdout.flush()
        sys.exit(code)
    except EdgeAgentError as error:
        sys.exit(_report(error))
    except BrokenPipeError:
        # Nobody reads on, as with `| head`; the interpreter must not complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def _report(error: EdgeAgentError) -> int:
    for line in str(error).splitlines():
        print(line, file=sys.stderr)
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_TEMPORARY if isinstance(error, TemporaryError | DeviceUnreachable) else EXIT_FINDINGS
