"""What a Modbus device holds: four tables of addresses, of which only those that were set exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Table = Literal["holding", "input", "coil", "discrete"]
Registers = Mapping[str, Mapping[int, int]]
"""A register image as plain numbers: {"holding": {100: 7}, "coil": {3: 1}}."""

WORD_TABLES: tuple[Table, ...] = ("holding", "input")
_SIZE = 65_536


class RegisterImage:
    """The registers and bits of one unit id.

    Changes are seen by the next request; changes made without awaiting in between are seen together.
    """

    def __init__(self, registers: Registers | None = None) -> None:
        self._content: dict[str, bytearray] = {}
        self._known: dict[str, bytearray] = {}
        for table, cells in (registers or {}).items():
            for address, value in cells.items():
                if table in WORD_TABLES:
                    self.set_words(_word_table(table), address, [value])
                else:
                    self.set_bits(_bit_table(table), address, [bool(value)])

    def set_words(self, table: Literal["holding", "input"], address: int, words: Sequence[int]) -> None:
        """Set 16-bit registers from `address` on, and make them legal."""
        self.put(table, address, b"".join(word.to_bytes(2, "big") for word in words))

    def set_bits(self, table: Literal["coil", "discrete"], address: int, bits: Sequence[bool]) -> None:
        """Set bits from `address` on, and make them legal."""
        content, known = self._cells(table, 1)
        content[address : address + len(bits)] = bytes(map(bool, bits))
        known[address : address + len(bits)] = b"\1" * len(bits)

    def put(self, table: Literal["holding", "input"], address: int, raw: bytes) -> None:
        """Set registers from their bytes as they are on the wire, high byte first."""
        content, known = self._cells(table, 2)
        content[address * 2 : address * 2 + len(raw)] = raw
        known[address : address + len(raw) // 2] = b"\1" * (len(raw) // 2)

    def remove(self, table: Table, address: int, count: int = 1) -> None:
        """Make addresses illegal, as after a firmware update that dropped them."""
        self._cells(table, 2 if table in WORD_TABLES else 1)[1][address : address + count] = bytes(count)

    def words(self, table: str, address: int, count: int) -> bytes | None:
        """The bytes of `count` registers; None where one of them does not exist."""
        known = self._known.get(table)
        if known is None or address + count > _SIZE or known.find(0, address, address + count) >= 0:
            return None
        return bytes(self._content[table][address * 2 : (address + count) * 2])

    def bits(self, table: str, address: int, count: int) -> bytes | None:
        """`count` bits packed as on the wire, first in the lowest; None where one of them does not exist."""
        known = self._known.get(table)
        if known is None or address + count > _SIZE or known.find(0, address, address + count) >= 0:
            return None
        packed = bytearray((count + 7) // 8)
        for index, bit in enumerate(self._content[table][address : address + count]):
            packed[index >> 3] |= bit << (index & 7)
        return bytes(packed)

    def _cells(self, table: str, width: int) -> tuple[bytearray, bytearray]:
        if table not in self._content:
            self._content[table] = bytearray(_SIZE * width)
            self._known[table] = bytearray(_SIZE)
        return self._content[table], self._known[table]


def _word_table(name: str) -> Literal["holding", "input"]:
    return "holding" if name == "holding" else "input"


def _bit_table(name: str) -> Literal["coil", "discrete"]:
    if name not in ("coil", "discrete"):
        raise ValueError(f"'{name}' is no table of Modbus; there are holding, input, coil and discrete")
    return "coil" if name == "coil" else "discrete"
