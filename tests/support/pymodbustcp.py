"""pyModbusTCP: a threaded Modbus TCP server and a client that share no code with anybody else here."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from pyModbusTCP.client import ModbusClient  # type: ignore[import-untyped]
from pyModbusTCP.server import DataBank, ModbusServer  # type: ignore[import-untyped]

from tests.support import witness
from tests.support.nodemodbus import Read


class PyModbusTcpServer:
    """Serves all 65536 addresses of all four tables to every unit, zeros at first; a context manager."""

    def __init__(self) -> None:
        self._bank = DataBank()
        self._server = ModbusServer("127.0.0.1", 0, no_block=True, data_bank=self._bank)
        self._server.ext_engine = self._count
        self.port = 0

    def _count(self, session: Any) -> None:
        witness.saw("pyModbusTCP", session.request.pdu.raw)
        self._server._internal_engine(session)

    def __enter__(self) -> Self:
        self._server.start()
        self.port = self._server._service.server_address[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._server._serve_th.join(5)

    def fill(self, table: str, address: int, values: Sequence[int]) -> None:
        """Set registers or bits."""
        setters = {
            "holding": self._bank.set_holding_registers,
            "input": self._bank.set_input_registers,
            "coil": self._bank.set_coils,
            "discrete": self._bank.set_discrete_inputs,
        }
        words = table in ("holding", "input")
        setters[table](address, [value if words else bool(value) for value in values])


def read_with_pymodbustcp(port: int, reads: Sequence[Read], unit: int = 1) -> list[list[int] | int]:
    """What the client of pyModbusTCP reads: the values, or the number of the exception, for each read."""
    client = ModbusClient("127.0.0.1", port, unit_id=unit, timeout=5)
    asks = {
        "holding": client.read_holding_registers,
        "input": client.read_input_registers,
        "coil": client.read_coils,
        "discrete": client.read_discrete_inputs,
    }
    try:
        found: list[list[int] | int] = []
        for table, address, quantity in reads:
            values = asks[table](address, quantity)
            found.append(client.last_except if values is None else values)
        return found
    finally:
        client.close()
