"""The checksum of Modbus RTU. Pure."""

from __future__ import annotations


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc16(content: bytes | bytearray | memoryview) -> int:
    """The checksum of `content`; on the wire its low byte comes first. 0 for content that ends in its own."""
    crc = 0xFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def sealed(content: bytes) -> bytes:
    """`content` with its checksum behind it."""
    return content + crc16(content).to_bytes(2, "little")
