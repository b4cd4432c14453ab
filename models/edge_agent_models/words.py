"""The sentences of a score: why it is not judged, what is unfamiliar."""

from __future__ import annotations

from collections.abc import Sequence


def span(seconds: float) -> str:
    """A length of time as one would say it: 45 s, 12 min, 3.5 h, 6.2 d."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def learning(seconds: float, target: float, rows: int, least: int) -> str:
    """How far learning is."""
    text = f"learning what is normal: {span(seconds)} of {span(target)} of running machine"
    return f"{text}, {rows} of at least {least} rows" if rows < least and seconds >= target else text


def waiting(unsure: float) -> str:
    """Why nothing is judged just now."""
    return f"after a gap: not judged for another {span(unsure)}" if unsure else "starting up: not judged yet"


def unfamiliar(names: Sequence[str]) -> str:
    """Context is where it never was."""
    return f"{listed(names)} outside what was learned: a notice unless far from normal"


def unknown_ground(names: Sequence[str]) -> str:
    """Context that never moved has moved."""
    return f"{listed(names)} never moved while learning and does now: not judged"
