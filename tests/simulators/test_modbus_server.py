"""The Modbus server: what it answers, what it refuses, what it counts, and how it lies when asked to."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from edge_agent_simulators.image import RegisterImage
from edge_agent_simulators.modbus_server import WRITE_FUNCTIONS, ModbusServer
from edge_agent_simulators.wire_faults import FaultKind

if TYPE_CHECKING:
    from tests.simulators import wire
else:

    def _sibling(name: str) -> ModuleType:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"simulators_{name}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    wire = _sibling("wire")
