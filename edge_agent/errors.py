"""The exceptions of edge-agent.

    EdgeAgentError
    ├── ConfigError           what is wrong with the configuration, all problems at once   (exit 78)
    ├── TemporaryError        something is away or taken; trying later may work            (exit 75)
    ├── DriverError
    │   ├── DeviceUnreachable no answer or no connection: the sampler backs off and tries again
    │   └── DeviceRefused     the device answered no to all that was asked (bad credentials, wrong unit)
    ├── SinkError
    │   ├── SinkUnavailable   keep the records and try again, not before `retry_after`
    │   └── SinkRejected      the sink will never take these records: quarantine them
    ├── StoreError            a file of ours cannot be read or written
    └── ModelError            a model file or a learning step cannot be used

A message says what, where and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence


class EdgeAgentError(Exception):
    """Base of every error this project raises on purpose."""


class ConfigError(EdgeAgentError):
    """The configuration cannot be used; `problems` holds one text per problem, each with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TemporaryError(EdgeAgentError):
    """A port is taken, another agent runs, a server is away: not the configuration's fault."""


class DriverError(EdgeAgentError):
    """A machine could not be read."""


class DeviceUnreachable(DriverError):
    """No connection, or no answer in time.

    `retry_within` (seconds) is for what costs next to nothing to try, such as looking for a device file.
    """

    def __init__(self, message: str, retry_within: float | None = None) -> None:
        super().__init__(message)
        self.retry_within = retry_within


class DeviceRefused(DriverError):
    """The device answered, and refused: asking again the same way is pointless until something changes."""


class SinkError(EdgeAgentError):
    """Records could not be delivered."""


class SinkUnavailable(SinkError):
    """The sink is away or overloaded; `retry_after` (seconds) is its own wish, if it gave one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkRejected(SinkError):
    """The sink answered that it will never take the records with these sequence numbers, and why."""

    def __init__(self, message: str, seqs: Sequence[int]) -> None:
        super().__init__(message)
        self.seqs = tuple(seqs)


class StoreError(EdgeAgentError):
    """A journal, store or state file is locked, damaged or of another version."""


class ModelError(EdgeAgentError):
    """A model file does not fit, or learning failed."""


def told(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to tell of tasks that failed together: the first error of ours, else all of them."""
    for failure in failures.exceptions:
        found = told(failure) if isinstance(failure, BaseExceptionGroup) else failure
        if isinstance(found, EdgeAgentError):
            return found
    return failures
