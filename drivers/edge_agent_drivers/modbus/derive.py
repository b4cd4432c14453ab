"""What is made of values once they are read: powers of ten from elsewhere, rates, named bits, texts.

The good path of plain values never comes here: a machine without any of these has no steps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from edge_agent.types import Reason, Status, Value, bad
from edge_agent_drivers.codec import INVALID, RANGE_EXCEEDED
from edge_agent_drivers.counters import CounterRate
from edge_agent_drivers.scaling import Scaling

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.row import Row

log = logging.getLogger(__name__)

WAITING = bad(Reason.WAITING_FOR_INITIAL_DATA)
_MOST_EXPONENT = 20

Known = dict[str, int | Status]
"""Tag that holds a power of ten -> what it was last, or why that is not known."""


@dataclass(frozen=True, slots=True)
class Held:
    """The tag `name` in `column` holds a power of ten of other tags, perhaps in other groups."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Power:
    """value = raw * 10^(sign * exponent) * scale + offset, the exponent from the tag `held`."""

    column: int
    held: str
    sign: int
    scaling: Scaling
    range: tuple[float, float] | None

    def multiplier(self, known: Known) -> tuple[int, int] | Status:
        """10^exponent as numerator and denominator, or why there is none."""
        exponent = known.get(self.held, WAITING)
        if isinstance(exponent, Status):
            return exponent
        lowest = -_MOST_EXPONENT if self.sign > 0 else 0
        if not lowest <= exponent <= _MOST_EXPONENT:
            return INVALID
        exponent *= self.sign
        return (10**exponent, 1) if exponent >= 0 else (1, 10**-exponent)

    def apply(self, row: Row, known: Known) -> None:
        """Scale the raw value in place."""
        raw = row.values[self.column]
        if raw is None:
            return
        found = self.multiplier(known)
        if isinstance(found, Status):
            row.values[self.column], row.statuses[self.column] = None, found
            return
        (up, down), (numerator, denominator, offset) = found, self.scaling
        value = raw * (numerator * up) / (denominator * down) + offset  # type: ignore[operator]
        if not isfinite(value):
            row.values[self.column], row.statuses[self.column] = None, INVALID
            return
        row.values[self.column] = value
        if self.range is not None and not self.range[0] <= value <= self.range[1]:
            row.statuses[self.column] = RANGE_EXCEEDED


@dataclass(frozen=True, slots=True)
class Rate:
    """The growth of the counter in `counter` goes to `column`; before any power of ten is applied."""

    name: str
    counter: int
    column: int
    per: float
    modulus: float | None
    power: Power | None


@dataclass(frozen=True, slots=True)
class Bit:
    """Bits `first` to `last` of the word in column `word` go to `column`; one as bool, several as number."""

    word: int
    first: int
    last: int
    column: int

    def apply(self, row: Row) -> None:
        """Give the bits their value; bad for the same reason where the word is."""
        word = row.values[self.word]
        if not isinstance(word, int):
            _same_status(row, self.word, self.column)
            return
        number = word >> self.first & (1 << self.last - self.first + 1) - 1
        row.values[self.column] = bool(number) if self.first == self.last else number
        if row.raw is not None:
            row.raw[self.column] = str(number)


@dataclass(frozen=True, slots=True)
class Text:
    """What the number in `number` means goes to `column`; a number without a name stays digits."""

    number: int
    column: int
    names: Mapping[int, str]

    def apply(self, row: Row) -> None:
        """Give the text its value; bad for the same reason where the number is."""
        number = row.values[self.number]
        if not isinstance(number, int):
            _same_status(row, self.number, self.column)
            return
        row.values[self.column] = self.names.get(number) or str(int(number))


def _same_status(row: Row, of: int, column: int) -> None:
    # Where another master is listened to, a row has only what was heard: there is no status either.
    if of in row.statuses:
        row.statuses[column] = row.statuses[of]


Step = Held | Rate | Power | Bit | Text


class Derivations:
    """The steps of one read group, with what they remember from scan to scan."""

    def __init__(self, machine: str, steps: Sequence[Step], known: Known) -> None:
        self._machine, self._known = machine, known
        self._held = [step for step in steps if isinstance(step, Held)]
        self._rates = [
            (step, CounterRate(step.per, step.modulus)) for step in steps if isinstance(step, Rate)
        ]
        self._powers = [step for step in steps if isinstance(step, Power)]
        # Bits before texts, which may be of bits.
        self._bits = [step for step in steps if isinstance(step, Bit)]
        self._texts = [step for step in steps if isinstance(step, Text)]

    @property
    def resets(self) -> Mapping[str, int]:
        """Counter -> how often it went back without a rollover."""
        return {rate.name: counter.resets for rate, counter in self._rates}

    def forget(self) -> None:
        """The connection is new, and perhaps the device."""
        self._known.clear()
        for _, counter in self._rates:
            counter.take(None, 0)

    def apply(self, row: Row, at: int) -> None:
        """Make all that is made of the row's values; `at` is when, in ns of a clock nobody sets."""
        for held in self._held:
            value = row.values[held.column]
            if isinstance(value, int):
                self._known[held.name] = value
            elif held.column in row.statuses:
                self._known[held.name] = row.statuses[held.column]
        for rate, counter in self._rates:
            self._rate(rate, counter, row, at)
        for power in self._powers:
            power.apply(row, self._known)
        for bit in self._bits:
            bit.apply(row)
        for text in self._texts:
            text.apply(row)

    def _rate(self, rate: Rate, counter: CounterRate, row: Row, at: int) -> None:
        value = row.values[rate.counter]
        if value is None and rate.counter not in row.statuses:
            return
        resets = counter.resets
        grown: Value | None = counter.take(value, at)  # type: ignore[arg-type]
        if counter.resets > resets and counter.resets & resets == 0:
            # The first, the second, the fourth, ...: a tag that is no counter does not fill the log.
            log.warning(
                "%s: %s went back to %s: taken as reset number %d, its rate starts again",
                self._machine, rate.name, value, counter.resets,
            )  # fmt: skip
        status = row.statuses[rate.counter] if value is None else WAITING
        if grown is not None and rate.power is not None:
            found = rate.power.multiplier(self._known)
            if isinstance(found, Status):
                grown, status = None, found
            else:
                scaling = rate.power.scaling
                grown = grown * (scaling.numerator * found[0]) / (scaling.denominator * found[1])  # type: ignore[operator]
        if grown is None or not isfinite(grown):  # type: ignore[arg-type]
            row.statuses[rate.column] = status
        else:
            row.values[rate.column] = grown
