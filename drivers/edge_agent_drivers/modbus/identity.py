"""Is this the device that was meant? Asked at each connect, so that another one's registers are no values."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from edge_agent.contracts.settings import StrictModel
from edge_agent.types import Reason, Value, bad
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.address import Address, AddressField
from edge_agent_drivers.modbus.faults import BEHIND_GATEWAY, LineFault, Refused

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.line import ModbusLine
    from edge_agent_drivers.modbus.settings import ModbusMachine

_BUSY = frozenset({4, 5, 6, 7, 8, *BEHIND_GATEWAY})
"""Exceptions that say nothing about which device it is."""


def _known(type_: str) -> str:
    if type_ not in codec.TYPES or type_ == "bool":
        raise ValueError(f"'{type_}' is no type of a register; types are {', '.join(codec.TYPES[1:])}")
    return type_


class IdentitySettings(StrictModel):
    """What says which device this is, a register or an object of its identification, and what it must be."""

    address: AddressField | None = None
    """A register, like a tag's."""
    object: Literal["vendor", "product_code", "revision", "product_name", "model_name"] | None = None
    """Instead: what the device says of itself (function 43/14)."""
    type: Annotated[str, AfterValidator(_known)] = "uint16"
    """The register's type, as a tag's."""
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
        if (self.address is None) == (self.object is None):
            raise ValueError("an identity is read from either `address` or `object`; write one of them")
        if self.address is not None and self.address.table.bits:
            raise ValueError("address: a bit tells no device from another: write holding:... or input:...")
        if bool(self.expect) == (self.range is not None):
            raise ValueError("an identity has either `expect`, a list of values, or `range`")
        if self.object is not None:
            if self.model_fields_set & {"type", "length", "registers", "range"}:
                raise ValueError("object: what a device says of itself is text: write only `expect` with it")
        elif (self.type == "string") != (self.length is not None):
            raise ValueError("length: a string needs its length in characters, and only a string has one")
        text = self.object is not None or self.type == "string"
        if any(isinstance(value, str) != text for value in self.expect):
            raise ValueError("expect: texts for a string or an object, whole numbers for every other type")
        return self

    @property
    def where(self) -> str:
        """What is read, for people."""
        return str(self.address) if self.address is not None else f"its {self.object}".replace("_", " ")

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


class AnotherDevice(LineFault):
    """It is not the device that was meant, so that its registers mean something else."""

    status = bad(Reason.CONFIG_ERROR)


class IdentityGuard:
    """Lets no question through before the device has said what it is, on this connection, since any silence.

    So a device that was exchanged or came back with another register map is found out before it is asked for
    values, however it came back: through a connection of this machine, of another that shares it, or, where
    there are no connections, after silence.
    """

    def __init__(self, settings: ModbusMachine, identity: IdentitySettings, line: ModbusLine) -> None:
        self._settings, self._identity, self._line = settings, identity, line
        self._sure: int | None = None
        """On which connection it said so."""
        self._refusal: AnotherDevice | None = None

    def doubt(self) -> None:
        """Ask again before the next question."""
        self._sure = self._refusal = None

    async def check(self) -> None:
        """AnotherDevice with what was found where it is another; a LineFault where it gave no answer."""
        generation = self._line.generation
        if self._sure == generation:
            if self._refusal is not None:
                raise self._refusal
            return
        self._refusal = await self._judged()
        self._sure = generation
        if self._refusal is not None:
            raise self._refusal

    async def _judged(self) -> AnotherDevice | None:
        identity = self._identity
        try:
            if identity.address is not None:
                found = await _register(identity, identity.address, self._settings, self._line)
            else:
                found = await _object(identity, self._settings, self._line)
        except Refused as refused:
            if refused.code in _BUSY:
                raise
            return AnotherDevice(
                f"this is another device: it refuses {identity.where}, which tells what it is ({refused})"
            )
        if identity.fits(found):
            return None
        return AnotherDevice(f"this is another device: {identity.where} is {found!r}, expected {identity}")


async def _register(
    identity: IdentitySettings, address: Address, settings: ModbusMachine, line: ModbusLine
) -> Value | None:
    # Imported where it is used, like `identify`: `check` reads the settings and needs no connection.
    from edge_agent_drivers.modbus.line import register_question

    order = settings.order_for(identity.type)
    how = codec.Field(type=identity.type, length=identity.length or 0, order=order)
    first = address.on_wire(settings.address_base)
    count = max(identity.registers or 0, how.registers)
    question = partial(register_question, settings.unit_id, address.table, first, count)
    payload = await line.ask_for(settings.unit_id, question)
    return codec.RegisterDecoder([(0, how)]).decode(payload)[0][0]


async def _object(identity: IdentitySettings, settings: ModbusMachine, line: ModbusLine) -> str | None:
    from edge_agent_drivers.modbus.identification import NAMES, Category, identify

    number = next(number for number, name in NAMES.items() if name.replace(" ", "_") == identity.object)
    # The first three objects are the basic ones, which every device with function 43/14 has.
    category = Category.BASIC if number < 3 else Category.REGULAR
    return (await identify(line, settings.unit_id, category)).get(number)
