"""Between a physical quantity and the number a PLC shows: lag, noise, update period, quantisation, limits.

A fault of the machine never touches an instrument, and a fault of an instrument never touches the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_agent.types import Kind
from edge_agent_simulators.randomness import Stream

Reading = float | int | bool | str | None
"""What a tag shows; None where its instrument has failed."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One tag of a machine model and the instrument behind it.

    `noise` is a deviation in engineering units, or a share of the value where `relative`. `lag` and `period`
    are seconds, `quantum` the smallest step shown. `accuracy` is the deviation of the gain from instrument
    to instrument. `agitated` says that turbulence in the machine shows up as noise here; `per_event` that the
    controller works the value out once a stroke and holds it until the next.
    """

    name: str
    unit: str | None = None
    range: tuple[float, float] | None = None
    kind: Kind = Kind.MEASUREMENT
    label: str = ""
    type: str = "float32"
    lag: float = 0.0
    noise: float = 0.0
    relative: bool = False
    quantum: float = 0.0
    period: float = 0.0
    accuracy: float = 0.0
    agitated: bool = False
    per_event: bool = False


class Instrument:
    """The sensor of one signal, with its own small errors; also where sensor faults are set.

    `stuck` holds the last number, its noise included; `failed` gives None; `drift` is added in engineering
    units.
    """

    __slots__ = (
        "_decay", "_decay_of", "_gain", "_grain", "_index", "_lagged", "_noise", "_shown", "_stream",
        "drift", "failed", "signal", "stuck",
    )  # fmt: skip

    def __init__(self, signal: Signal, seed: int, machine: str) -> None:
        self.signal = signal
        self.stuck = False
        self.failed = False
        self.drift = 0.0
        self._stream = Stream(seed, f"{machine}/{signal.name}")
        self._gain = 1.0 + signal.accuracy * Stream(seed, f"{machine}/{signal.name}/gain").gauss(0)
        self._grain = 1.0 / signal.quantum if signal.quantum else 0.0
        self._lagged = math.nan
        self._decay = self._decay_of = 0.0
        self._index = -(1 << 62)
        self._noise = signal.noise
        self._shown = math.nan

    def read(self, t: float, truth: float, dt: float, agitation: float = 1.0) -> float | None:
        """What is shown at `t`, `dt` seconds after the last call; None where the instrument has failed."""
        signal = self.signal
        if signal.lag:
            truth = self._follow(truth, dt, signal.lag)
        if self.failed:
            return None
        if self.stuck:
            return self._shown
        period = signal.period or dt
        index = int(t / period + 1e-6)
        if index != self._index:
            self._index = index
            self._shown = self._measure(truth, index, agitation)
        return self._shown

    def _follow(self, truth: float, dt: float, lag: float) -> float:
        if self._lagged != self._lagged:  # NaN: the first reading starts settled
            self._lagged = truth
            return truth
        if dt != self._decay_of:
            self._decay, self._decay_of = math.exp(-dt / lag), dt
        self._lagged = truth + (self._lagged - truth) * self._decay
        return self._lagged

    def _measure(self, truth: float, index: int, agitation: float) -> float:
        signal = self.signal
        value = truth * self._gain + self.drift
        if self._noise:
            noise = self._noise * self._stream.gauss(index)
            if signal.agitated:
                noise *= agitation
            value += value * noise if signal.relative else noise
        if self._grain:
            value = round(value * self._grain) / self._grain
        if signal.range is not None:
            low, high = signal.range
            value = low if value < low else min(value, high)
        return value
