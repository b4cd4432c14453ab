"""Is this the device that was meant? Asked at each connect, so that another one's registers are no values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from edge_agent.contracts.settings import StrictModel
from edge_agent.errors import DeviceRefused
from edge_agent.types import Value
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.address import AddressField, Table
from edge_agent_drivers.modbus.faults import BEHIND_GATEWAY, Refused

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.settings import ModbusMachine

Ask = Callable[[int, Table, int, int], Awaitable[bytes]]
"""Reads registers: unit, table, address, count; a LineFault where there is no answer."""

_BUSY = frozenset({4, 5, 6, 7, 8, *BEHIND_GATEWAY})
"""Exceptions that say nothing about which device it is."""


def _known(type_: str) -> str:
    if type_ not in codec.TYPES or type_ == "bool":
        raise ValueError(f"'{type_}' is no type of a register; types are {', '.join(codec.TYPES[1:])}")
    return type_


class IdentitySettings(StrictModel):
    """A register that says which device this is, and what it must hold."""

    address: AddressField
    """The register, like a tag's."""
    type: Annotated[str, AfterValidator(_known)] = "uint16"
    length: int | None = Field(default=None, ge=1, le=250)
    """Length of a text in characters."""
    registers: int | None = Field(default=None, ge=1, le=125)
    """How many are read where the device gives them only together; the value is at the beginning."""
    expect: list[int | str] = []
    """What it may hold; a text is looked for within the text that is found, upper or lower case alike."""
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    """Instead: lowest and highest number it may hold."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.address.table.bits:
            raise ValueError("address: a bit tells no device from another: write holding:... or input:...")
        if bool(self.expect) == (self.range is not None):
            raise ValueError("an identity has either `expect`, a list of values, or `range`")
        if (self.type == "string") != (self.length is not None):
            raise ValueError("length: a string needs its length in characters, and only a string has one")
        if any(isinstance(value, str) != (self.type == "string") for value in self.expect):
            raise ValueError("expect: texts for a string, whole numbers for every other type")
        return self

    def fits(self, found: Value | None) -> bool:
        """Whether a device with this value is the one that was meant."""
        if isinstance(found, str):
            return any(str(wanted).casefold() in found.casefold() for wanted in self.expect)
        if found is None:
            return False
        return self.range[0] <= found <= self.range[1] if self.range is not None else found in self.expect

    def __str__(self) -> str:
        if self.range is not None:
            return f"{self.range[0]:g} to {self.range[1]:g}"
        return " or ".join(str(value) for value in self.expect)


async def confirm(machine: str, settings: ModbusMachine, ask: Ask) -> None:
    """Read the register that says which device it is.

    DeviceRefused with what was found where it is another; a LineFault where it gave no answer.
    """
    identity = settings.identity
    if identity is None:
        return
    how = codec.Field(
        type=identity.type,
        length=identity.length or 0,
        order=settings.order_for(identity.type),
    )
    address = identity.address.on_wire(settings.address_base)
    count = max(identity.registers or 0, how.registers)
    advice = "check url, unit_id and profile, or write identity: off"
    try:
        payload = await ask(settings.unit_id, identity.address.table, address, count)
    except Refused as refused:
        if refused.code in _BUSY:
            raise
        raise DeviceRefused(
            f"machine {machine}: this is another device: it refuses {identity.address}, which tells "
            f"what it is ({refused}); {advice}"
        ) from refused
    values, _ = codec.RegisterDecoder([(0, how)]).decode(payload)
    if not identity.fits(values[0]):
        raise DeviceRefused(
            f"machine {machine}: this is another device: {identity.address} is {values[0]!r}, "
            f"expected {identity}; {advice}"
        )
