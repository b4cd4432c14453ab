"""A bound that asyncua's decoding lacks.

An array of the type Null takes no bytes for its elements, so a length of two thousand million, from a few
flipped bits of a device, would be counted through in the event loop and fill the memory.
"""

from __future__ import annotations

from typing import IO, Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from asyncua.ua.uaerrors import UaError

_MOST_NOTHINGS = 1000
_unbounded = ua_binary.unpack_uatype_array


def bound_decoding() -> None:
    """Set the bound, for the whole process; harmless when it is set already."""
    ua_binary.unpack_uatype_array = _bounded


def _bounded(vtype: ua.VariantType, data: Buffer | IO[Any]) -> list[Any] | None:
    if vtype != ua.VariantType.Null:
        return _unbounded(vtype, data)
    length = int(ua_binary.Primitives.Int32.unpack(data))
    if length > _MOST_NOTHINGS:
        raise UaError(f"an array of {length} times nothing")
    return [None] * length if length >= 0 else None
