"""State as plain arrays: what `save` writes and `load` reads, without objects and without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ModelError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Arrays = Mapping[str, npt.NDArray[np.generic]]


def median(values: Floats) -> Floats:
    """The median along the last axis, NaN where there is one; np.median would load numpy.ma (1.5 MB)."""
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    middle: Floats = (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2
    return np.where(np.isnan(ordered[..., -1]), np.nan, middle)


def prefixed(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[np.generic]]:
    """The same arrays under `prefix.name`."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def below(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays that were stored under `prefix.`, with the prefix taken off."""
    start = f"{prefix}."
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def fields_of(part: object, names: tuple[str, ...]) -> dict[str, npt.NDArray[np.generic]]:
    """The named attributes of `part` as arrays that share no memory with it."""
    return {name: np.array(getattr(part, name)) for name in names}


def restore(part: object, names: tuple[str, ...], arrays: Arrays) -> None:
    """Set the named attributes of `part` to what `fields_of` gave; numbers become numbers again.

    ModelError where one is missing or an array has another shape than the one it replaces.
    """
    for name in names:
        stored = taken(arrays, name)
        old: Any = getattr(part, name)
        if isinstance(old, np.ndarray):
            if old.shape != stored.shape:
                raise ModelError(
                    f"{name} has shape {stored.shape}, this machine needs {old.shape}: learn again"
                )
            setattr(part, name, np.array(stored, dtype=old.dtype))
        else:
            setattr(part, name, type(old)(stored.item()))


def taken(arrays: Arrays, name: str) -> npt.NDArray[Any]:
    """The array of that name. ModelError where the model does not hold it."""
    if name not in arrays:
        raise ModelError(f"the model holds no '{name}': it is damaged or from another version; learn again")
    return np.asarray(arrays[name])
