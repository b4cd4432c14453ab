"""libmodbus through ctypes: a Modbus TCP server that shares no code with pymodbus or with us."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tests.support import tools, witness

WRITE_FUNCTIONS = frozenset({5, 6, 15, 16, 21, 22, 23})
_SIZE = 1000
_LONGEST = 260


class _Mapping(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in (
            "nb_bits", "start_bits", "nb_input_bits", "start_input_bits",
            "nb_input_registers", "start_input_registers", "nb_registers", "start_registers",
        )),
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    ]  # fmt: skip


def _load() -> Any:
    library = ctypes.CDLL(str(tools.library("libmodbus.so.5")), use_errno=True)
    library.modbus_new_tcp.restype = ctypes.c_void_p
    library.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
    return library


class LibmodbusServer:
    """Serves addresses 0 to 999 of all four tables to one client at a time; a context manager."""

    def __init__(self) -> None:
        self._library = _load()
        self._context = ctypes.c_void_p(self._library.modbus_new_tcp(b"127.0.0.1", 0))
        self.mapping = self._library.modbus_mapping_new(_SIZE, _SIZE, _SIZE, _SIZE).contents
        self.port = 0
        self.write_requests = 0
        self._listening = -1
        self._connection = -1
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="libmodbus", daemon=True)

    def put(self, address: int, raw: bytes) -> None:
        """Put bytes into holding registers so that they come over the wire as they are.

        (libmodbus' own modbus_set_float_* are no help: up to 3.1.6 the letters of their names mean the bytes
        in the memory of a little-endian computer, from 3.1.7 on those on the wire.)
        """
        for i in range(0, len(raw), 2):
            self.mapping.tab_registers[address + i // 2] = int.from_bytes(raw[i : i + 2], "big")

    def fill(self, table: str, address: int, values: Sequence[int]) -> None:
        """Set registers or bits."""
        tables = {
            "holding": self.mapping.tab_registers,
            "input": self.mapping.tab_input_registers,
            "coil": self.mapping.tab_bits,
            "discrete": self.mapping.tab_input_bits,
        }
        for i, value in enumerate(values):
            tables[table][address + i] = value

    def __enter__(self) -> Self:
        self._listening = self._library.modbus_tcp_listen(self._context, 1)
        if self._listening < 0:
            raise OSError(ctypes.get_errno(), "libmodbus cannot listen")
        with socket.socket(fileno=os.dup(self._listening)) as listening:
            self.port = listening.getsockname()[1]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        for descriptor in (self._connection, self._listening):
            _shut(descriptor)
        self._thread.join(5)
        os.close(self._listening)
        self._library.modbus_close(self._context)
        self._library.modbus_mapping_free(ctypes.byref(self.mapping))
        self._library.modbus_free(self._context)

    def _serve(self) -> None:
        query = (ctypes.c_uint8 * _LONGEST)()
        listening = ctypes.c_int(self._listening)
        while not self._stopped:
            self._connection = self._library.modbus_tcp_accept(self._context, ctypes.byref(listening))
            while not self._stopped and self._connection >= 0:
                length = self._library.modbus_receive(self._context, query)
                if length < 0:
                    break
                if length > 7:
                    pdu = bytes(query[7:length])
                    # Of a function it does not know it takes the number alone, and flushes the rest later.
                    witness.saw("libmodbus", pdu if len(pdu) > 1 else pdu + _waiting(self._connection))
                    self.write_requests += query[7] in WRITE_FUNCTIONS
                if length > 0:
                    self._library.modbus_reply(self._context, query, length, ctypes.byref(self.mapping))
            self._library.modbus_close(self._context)


def _waiting(descriptor: int) -> bytes:
    """What has come and was not taken yet."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        try:
            return connection.recv(_LONGEST, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


def _shut(descriptor: int) -> None:
    if descriptor < 0:
        return
    try:
        with socket.socket(fileno=os.dup(descriptor)) as open_socket:
            open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It was closed on the other side meanwhile, which is what was wanted.
        return
