"""A warning that a driver's settings give of themselves."""

from __future__ import annotations

from typing import NamedTuple


class Doubt(NamedTuple):
    """Something that works and was probably not meant, or will fail: a warning of `check`."""

    path: tuple[str, ...]
    """The key it is about, below the machine."""
    code: str
    """Of `settings.problems.CODES`."""
    message: str
    hint: str

    def below(self, key: str) -> Doubt:
        """The same, one level up."""
        return self._replace(path=(key, *self.path))
