"""How a Modbus device can misbehave on purpose, for tests of those who read it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "delay", "silence", "short", "wrong_transaction", "wrong_unit", "garbage", "exception", "close"
]


@dataclass(slots=True)
class WireFault:
    """One misbehaviour.

    `value` is seconds for `delay` and the exception code for `exception`. It strikes `count` matching
    requests (None: until removed), of one `unit` id or of all, where `addresses` is given only requests that
    begin inside.
    """

    kind: FaultKind
    value: float = 0.0
    count: int | None = None
    unit: int | None = None
    addresses: Container[int] | None = None

    def strikes(self, unit: int, address: int | None) -> bool:
        """Whether it strikes a request."""
        if self.unit is not None and unit != self.unit:
            return False
        return self.addresses is None or (address is not None and address in self.addresses)


class WireFaults:
    """The misbehaviours in force; the first that matches a request strikes it."""

    def __init__(self) -> None:
        self._active: list[WireFault] = []
        self.struck = 0
        """How many requests were struck."""

    def add(
        self,
        kind: FaultKind,
        value: float = 0.0,
        *,
        count: int | None = None,
        unit: int | None = None,
        addresses: Container[int] | None = None,
    ) -> WireFault:
        """Begin to misbehave; the fault is returned so that it can be removed."""
        fault = WireFault(kind, value, count, unit, addresses)
        self._active.append(fault)
        return fault

    def remove(self, fault: WireFault) -> None:
        """End one misbehaviour; harmless where it has run out."""
        if fault in self._active:
            self._active.remove(fault)

    def clear(self) -> None:
        """Behave again."""
        self._active.clear()

    def take(self, unit: int, address: int | None) -> WireFault | None:
        """The fault that strikes this request, counted down; None: answer properly."""
        if not self._active:
            return None
        for fault in self._active:
            if fault.strikes(unit, address):
                self.struck += 1
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self._active.remove(fault)
                return fault
        return None
