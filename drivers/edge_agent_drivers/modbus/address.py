"""Addresses as people write them: `holding:100`, `input:12`, `coil:3`, `discrete:0`, or `400101`.

Every other notation gets an error that says what to write instead, because a wrong guess reads a wrong
register and nobody notices.
"""

from __future__ import annotations

import difflib
import enum
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema


class Table(enum.StrEnum):
    """The four tables of a Modbus device."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"

    @property
    def function(self) -> int:
        """The function code that reads this table."""
        return _FUNCTIONS[self]

    @property
    def bits(self) -> bool:
        """True where an address is one bit, False where it is a register of 16."""
        return self in (Table.COIL, Table.DISCRETE)


_FUNCTIONS = {Table.COIL: 1, Table.DISCRETE: 2, Table.HOLDING: 3, Table.INPUT: 4}
_MODICON = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address: the table and the number as written."""

    table: Table
    number: int
    modicon: bool = False
    """True for six digits, which count from one whatever `address_base` says."""

    def on_wire(self, base: int) -> int:
        """The zero-based address as it goes over the wire; below 0 or above 65535 where there is none."""
        return self.number - (1 if self.modicon else base)

    def __str__(self) -> str:
        if self.modicon:
            digit = next(digit for digit, table in _MODICON.items() if table is self.table)
            return f"{digit}{self.number:05d}"
        return f"{self.table}:{self.number}"


_PLAIN = re.compile(r"([A-Za-z_ ]+?)\s*:\s*(0[xX][0-9A-Fa-f]+|\d+)")


def parse_address(written: object) -> Address:
    """The address somebody wrote, as text or as a bare number. ValueError with the fix otherwise."""
    if isinstance(written, Address):
        return written
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise ValueError("an address is written like holding:100, input:12, coil:3 or discrete:0")
    text = str(written).strip()
    if text.isascii() and text.isdigit():
        return _digits(text)
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise ValueError(_advice(text))
    return Address(
        _table(match[1].strip(), match[2]), int(match[2], 0) if "x" in match[2].lower() else int(match[2])
    )


_OTHER_NAMES = {"hr": "holding", "ir": "input", "di": "discrete", "co": "coil", "coils": "coil"}


def _table(name: str, number: str) -> Table:
    try:
        return Table(name)
    except ValueError:
        hint = f"; did you mean {meant}:{number}?" if (meant := _meant(name)) else ""
        raise ValueError(f"'{name}' is no table: there are holding, input, coil and discrete{hint}") from None


def _meant(name: str) -> str | None:
    lowered = name.lower()
    if lowered in _OTHER_NAMES:
        return _OTHER_NAMES[lowered]
    if begins := next((str(table) for table in Table if lowered.startswith(table)), None):
        return begins
    return next(iter(difflib.get_close_matches(lowered, list(Table), n=1, cutoff=0.5)), None)


def _digits(text: str) -> Address:
    if len(text) == 6 and text[0] in _MODICON and 1 <= int(text[1:]) <= 65536:
        return Address(_MODICON[text[0]], int(text[1:]), modicon=True)
    if len(text) == 5 and text[0] in _MODICON and int(text[1:]) >= 1:
        table, number = _MODICON[text[0]], int(text[1:])
        raise ValueError(
            f"'{text}' has five digits, which is Modicon notation in one manual and a plain number in the "
            f"next: write {table}:{number - 1} (or {text[0]}{number:05d}) for the former, "
            f"{table}:{text} for the latter"
        )
    raise ValueError(
        f"'{text}' does not say which table: write holding:{int(text)}, input:{int(text)}, "
        "or six digits like 400101"
    )


def _advice(text: str) -> str:
    start = f"'{text}' is not an address"
    if match := re.fullmatch(r"(\w+):(\d+)[./](\d+)", text):
        word = f"{match[1]}:{match[2]}"
        if "." in text:
            return f"{start}: for one bit of a register write address: {word} and bits: {{{match[3]}: name}}"
        return f"{start}: for several registers write address: {word} and the type"
    if match := re.fullmatch(r"%(M|I|Q)([WX]?)(\d+)", text):
        table = {"M": "holding", "I": "input", "Q": "holding"}[match[1]] if match[2] == "W" else "coil"
        return (
            f"{start}: a PLC's own name is mapped by the PLC; if it maps one to one, write {table}:{match[3]}"
        )
    if re.fullmatch(r"0[xX][0-9A-Fa-f]+", text):
        return f"{start}, as it does not say which table: write holding:{int(text, 16)} or holding:{text}"
    return f"{start}: write holding:100, input:12, coil:3, discrete:0, or six digits like 400101"


AddressField = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": r"^((holding|input|coil|discrete):(\d+|0[xX][0-9A-Fa-f]+)|[0134]\d{5})$",
                },
                {"type": "integer", "minimum": 100001, "maximum": 465536},
            ],
            "examples": ["holding:100", "input:12", "coil:3", "discrete:0", "400101"],
        }
    ),
]
"""An address in the notations of INTERFACE.md."""
