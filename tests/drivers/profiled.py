"""A machine with a device profile, made from YAML as the agent makes it, and devices that only know PDUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_agent.clock import Clock
from edge_agent.settings.load import require
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from tests.drivers.stage import reply_to

ILLEGAL_ADDRESS = 2


def machine(folder: Path, keys: str, port: int = 502) -> ModbusMachine:
    """The settings of a machine with these keys, as `profile: omron-e5, params: {decimals: 1}`."""
    path = folder / "agent.yaml"
    path.write_text(f'site: s\nmachines:\n  m: {{url: "tcp://127.0.0.1:{port}", {keys}}}\n', encoding="utf-8")
    settings = require(path, env={}).machines["m"]
    assert isinstance(settings, ModbusMachine)
    return settings


def driver(folder: Path, keys: str, port: int) -> ModbusDriver:
    """A driver for such a machine."""
    return ModbusDriver("m", machine(folder, f"timeout: 500ms, {keys}", port), Clock())


def answering(answers: Mapping[str, str]) -> Callable[[bytes], Sequence[bytes]]:
    """A device that knows these requests (PDU in hex) and their answers, and refuses every other."""
    known = {bytes.fromhex(request): bytes.fromhex(answer) for request, answer in answers.items()}

    def reply(frame: bytes) -> Sequence[bytes]:
        refusal = bytes((frame[7] | 0x80, ILLEGAL_ADDRESS))
        return [reply_to(frame, known.get(frame[7:12], refusal))]

    return reply


def holding(first: int, content: str) -> Callable[[bytes], Sequence[bytes]]:
    """A device whose holding registers from `first` on are the bytes of an example, and no others."""
    image = bytes.fromhex(content)

    def reply(frame: bytes) -> Sequence[bytes]:
        start = 2 * (int.from_bytes(frame[8:10], "big") - first)
        end = start + 2 * int.from_bytes(frame[10:12], "big")
        if frame[7] != 3 or start < 0 or end > len(image):
            return [reply_to(frame, bytes((frame[7] | 0x80, ILLEGAL_ADDRESS)))]
        return [reply_to(frame, bytes((3, end - start)) + image[start:end])]

    return reply
