"""How messages write times, values and lists."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.clock import SECOND, iso


def spoken(ns: int) -> str:
    """A time: 2026-03-02 05:00:12 UTC."""
    return f"{iso(ns)[:19].replace('T', ' ')} UTC"


def lasting(ns: int) -> str:
    """A length of time in its two largest units: 45 s, 3 min 20 s, 5 h 10 min, 2 d 3 h."""
    seconds = max(0, ns) // SECOND
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def number(value: float) -> str:
    """A value with four significant digits, and without an exponent where one can do without."""
    size = abs(value)
    if size != 0 and not 1e-4 <= size < 1e7:
        return f"{value:.3e}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.4g}"


def measured(value: float, unit: str | None) -> str:
    """A value with its unit."""
    return f"{number(value)} {unit}" if unit else number(value)


def joined(texts: Sequence[str]) -> str:
    """Texts as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
