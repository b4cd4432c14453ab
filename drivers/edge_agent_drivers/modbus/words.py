"""Words of a device that are more than a number: named bits, and numbers that stand for something."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field, StringConstraints

from edge_agent.contracts.settings import DiscreteAlarmSettings, StrictModel

Names = Annotated[
    dict[int, Annotated[str, StringConstraints(min_length=1, max_length=128)]],
    Field(json_schema_extra={"propertyNames": {"pattern": r"^[-+]?\d+$"}}),
]
"""Raw number -> what it means, as {0: stopped, 1: running}."""


class BitSettings(StrictModel):
    """One bit of a status word, or several that lie side by side."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)]
    """It becomes the tag WORD.name."""
    label: str | None = None
    """Free text shown to people."""
    description: str | None = None
    """Anything worth knowing."""
    enum: Names = {}
    """Of several bits: what their number means; its text becomes the tag WORD.name.text."""
    alarm: DiscreteAlarmSettings | None = None
    """An alarm on the bit, or on the number that several make."""


def _named(written: object) -> object:
    return {"name": written} if isinstance(written, str) else written


def _bit_key(written: object) -> object:
    text = str(written)
    if not re.fullmatch(r"\d{1,2}(-\d{1,2})?", text):
        raise ValueError(f"'{text}' is no bit: write a number like 3, or several like \"4-6\"")
    return text


Bits = dict[
    Annotated[str, BeforeValidator(_bit_key), StringConstraints(pattern=r"^\d{1,2}(-\d{1,2})?$")],
    Annotated[BitSettings, BeforeValidator(_named, json_schema_input_type=str | BitSettings)],
]
"""`3` or `4-6` -> a name, or a mapping with `name`."""


class NamedBits(NamedTuple):
    """Bits `first` to `last` of a word, counted from 0, the least significant."""

    first: int
    last: int
    settings: BitSettings
