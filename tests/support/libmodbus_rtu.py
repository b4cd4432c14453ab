"""libmodbus through ctypes: a Modbus RTU device at a tty, that shares no code with pymodbus or with us."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path
from typing import Any

from tests.support import tools

_SIZE, _LONGEST = 1000, 260


class LibmodbusRtuServer:
    """Serves addresses 0 to 999 of a unit, holding:N and input:N being N plus a base, until its tty goes."""

    def __init__(self, path: Path, unit: int, holding: int, inputs: int) -> None:
        library: Any = ctypes.CDLL(str(tools.library("libmodbus.so.5")), use_errno=True)
        library.modbus_new_rtu.restype = ctypes.c_void_p
        library.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
        self._library = library
        self._context = ctypes.c_void_p(
            library.modbus_new_rtu(str(path).encode(), 115200, ctypes.c_char(b"N"), 8, 1)
        )
        library.modbus_set_slave(self._context, unit)
        self._mapping = library.modbus_mapping_new(_SIZE, _SIZE, _SIZE, _SIZE)
        for i in range(_SIZE):
            self._mapping.contents.tab_registers[i] = holding + i
            self._mapping.contents.tab_input_registers[i] = inputs + i
        if library.modbus_connect(self._context) < 0:
            raise OSError(ctypes.get_errno(), f"libmodbus cannot open {path}")
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="libmodbus-rtu", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, after the tty was pulled out."""
        self._stopped = True
        self._thread.join(5)
        self._library.modbus_close(self._context)
        self._library.modbus_mapping_free(self._mapping)
        self._library.modbus_free(self._context)

    def _serve(self) -> None:
        query = (ctypes.c_uint8 * _LONGEST)()
        while not self._stopped:
            length = self._library.modbus_receive(self._context, query)
            if length > 0:
                self._library.modbus_reply(self._context, query, length, self._mapping)
            elif length < 0:
                self._stopped = ctypes.get_errno() < _LIBMODBUS_ERRORS


_LIBMODBUS_ERRORS = 112345678
"""From here on errors are libmodbus' own, of one request; below they are the system's."""


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
