"""Raw numbers and bytes that are not yet the value: decimal digits, signs, text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.types import Value


def from_bcd(raw: int) -> int:
    """The decimal number whose digits are the hexadecimal ones of `raw`. ValueError above nine."""
    return int(f"{raw:x}")


def from_mod10(raw: int, words: int) -> int:
    """Words of four decimal digits each, all of the number's sign. ValueError where they are not."""
    value = 0
    for shift in range(16 * (words - 1), -1, -16):
        word = raw >> shift & 0xFFFF
        word -= (word & 0x8000) << 1
        if not -9999 <= word <= 9999 or word * value < 0:
            raise ValueError(f"{word} is no four digits")
        value = value * 10_000 + word
    return value


def from_sign_magnitude(raw: int, bits: int) -> int:
    """A number whose highest bit is its sign and whose others are its magnitude."""
    sign = 1 << bits - 1
    return -(raw - sign) if raw & sign else raw


def from_text(raw: bytes) -> str:
    """Text up to the first NUL, without padding; UTF-8, else Latin-1. ValueError where it is none."""
    text = raw.split(b"\0", 1)[0].rstrip(b"\xff ")
    if not text and b"\xff" in raw:
        raise ValueError("no text: all bytes are 0xFF")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    if not decoded.isprintable():
        raise ValueError("control characters")
    return decoded


CONVERSIONS: Mapping[str, Callable[..., Value]] = {
    "bool": bool,
    "bcd16": from_bcd,
    "bcd32": from_bcd,
    "mod10_32": lambda raw: from_mod10(raw, 2),
    "mod10_64": lambda raw: from_mod10(raw, 4),
    "signmag16": lambda raw: from_sign_magnitude(raw, 16),
    "signmag32": lambda raw: from_sign_magnitude(raw, 32),
    "string": from_text,
}
"""Type -> what turns the unpacked number or bytes into the value. ValueError where it is none."""
