"""What a device profile may say: a YAML file with the registers of a family of devices, and their source.

Keys that a machine has too (`tags`, `byte_order`, `max_registers`, ...) go into every machine with
`profile: NAME` and give way to its own. The others are facts for people and for `edge-agent profiles`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from edge_agent.contracts.settings import Name, StrictModel
from edge_agent.units import Duration
from edge_agent_drivers.modbus.identity import IdentitySettings
from edge_agent_drivers.modbus.orders import Orders
from edge_agent_drivers.modbus.ranges import AddressRangeField
from edge_agent_drivers.modbus.tags import MOST_REGISTERS, ModbusTag, Type
from edge_agent_drivers.modbus.watchdog import ModbusWatchdog


class SourceSettings(StrictModel):
    """A document that the facts of a profile are from."""

    document: str
    """Its title."""
    kind: Literal["manual", "transcription"] = "manual"
    """The maker's own document, or somebody else's table made from it."""
    version: str
    """Its version, number or date; `not stated` where it has none."""
    url: str
    """Where it was read."""
    pages: str | None = None
    """Where in it."""


class ParamSettings(StrictModel):
    """Something that only the engineer knows, like the decimals that were set in the device."""

    label: str
    """What it is, and where in the device it is found."""
    scales: Annotated[list[str], Field(min_length=1)]
    """The tags whose scale is multiplied with it."""
    values: dict[int, FiniteFloat] | None = None
    """Where it is a choice: what is written -> what the scale is multiplied with."""
    default: FiniteFloat | None = None
    """Without one, the tags are left out until the machine says it in `params`."""

    @model_validator(mode="after")
    def _default_is_possible(self) -> Self:
        if self.values is not None and self.default is not None and self.default not in self.values:
            raise ValueError(f"default: {self.default:g} is none of `values`")
        return self


class Profile(StrictModel):
    """A device profile."""

    device: str
    """The family: maker and models."""
    source: Annotated[list[SourceSettings], Field(min_length=1)]
    """Where all of this is from."""
    firmware: str
    """The firmware it holds for, or `not stated`."""
    verified: Literal["transcription", "manual", "dump", "hardware"]
    """Against what: tables made from its manual, the manual itself, registers recorded from one, a device."""
    not_known: list[str] = []
    """What could not be found out, or was left out because it could not be sourced."""
    notes: list[str] = []
    """What an engineer has to know before using it."""
    address_base: Literal[0, 1] = 0
    """1 where the document counts registers from one."""
    byte_order: Orders = {}
    """By type."""
    block: Literal["joined", "exact", "aligned", "single"] | None = None
    """How values are read together, where it is not neighbours in one request."""
    block_size: int | None = Field(default=None, ge=1, le=MOST_REGISTERS)
    """Registers of one block, where it is aligned."""
    max_registers: int | None = Field(default=None, ge=1, le=MOST_REGISTERS)
    """Most registers in one request."""
    max_gap: int | None = Field(default=None, ge=0, le=MOST_REGISTERS)
    """Undeclared registers that may be read to join two blocks."""
    blocks: list[AddressRangeField] = []
    """Stretches that are given only as a whole."""
    readable: list[AddressRangeField] = []
    """All that may be read."""
    holes: list[AddressRangeField] = []
    """Stretches that are never read."""
    invalid: dict[Type, list[int | FiniteFloat]] = {}
    """Raw values that mean "no value", by type."""
    min_pause: Duration | None = None
    """Least time between an answer and the next request; becomes `comm.pause`."""
    update_period: Duration | None = None
    """How often the device renews its values; the machine's `every` is no shorter by default."""
    measurement: Name | None = None
    """Measurement of the line protocol, where it is not `readings`."""
    comm_watchdog: ModbusWatchdog | None = None
    """What the device does when nobody talks to it."""
    identity: IdentitySettings | None = None
    """How the device is recognised."""
    params: dict[Name, ParamSettings] = {}
    """What the engineer has to say in the machine's `params`."""
    tags: dict[Name, ModbusTag]
    """The values of the device."""

    @model_validator(mode="after")
    def _params_scale_tags(self) -> Self:
        for name, param in self.params.items():
            for tag in param.scales:
                if tag not in self.tags:
                    raise ValueError(f"params: '{name}' scales '{tag}', which is no tag of this profile")
        return self
