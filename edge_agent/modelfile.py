"""Models on disk: arrays in an .npz without objects, with a manifest inside that says what they are.

Nothing in such a file is ever executed, whoever wrote it: members are read as plain bytes of a plain type.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ModelError

LARGEST_MODEL = 64 * 1024 * 1024
_MANIFEST = "manifest"
_DIGEST = "sha256"
_MOST_MEMBERS = 10_000

Arrays = Mapping[str, npt.NDArray[np.generic]]


def write_model(path: Path, arrays: Arrays, manifest: Mapping[str, Any]) -> None:
    """Write arrays and manifest to `path`, and the manifest for people to .json beside it, each at once.

    OSError where the disk does not take them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    told = {**manifest, "numpy": np.__version__, "arrays": sorted(plain), _DIGEST: _digest(plain)}
    text = json.dumps(told, indent=1, ensure_ascii=False).encode()
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **plain, **{_MANIFEST: np.frombuffer(text, dtype=np.uint8)}
    )
    replace(path, buffer.getvalue())
    replace(path.with_suffix(".json"), text)


def replace(path: Path, content: bytes) -> None:
    """Write so that after a power cut either the old or the new file is there, whole."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_model(
    path: Path, kind: str, schema: int
) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, Any]]:
    """The arrays and the manifest of a file of that kind and version of the format.

    ModelError with the reason where it is away, damaged, of another kind or version, or holds objects.
    """
    arrays = read_arrays(path)
    manifest = _manifest(path, arrays.pop(_MANIFEST, None))
    if manifest.get("kind") != kind:
        raise ModelError(f"{path} is no {kind} model, but {manifest.get('kind')!r}")
    if manifest.get("schema") != schema:
        raise ModelError(
            f"{path} has version {manifest.get('schema')!r} of the format; this edge-agent reads {schema}: "
            "train it again"
        )
    if manifest.get(_DIGEST) != _digest(arrays):
        raise ModelError(f"{path} is damaged: its checksum is wrong")
    return arrays, manifest


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of an .npz file. ModelError where it is away, too large, damaged or holds objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > LARGEST_MODEL:
                raise ModelError(f"{path} is larger than {LARGEST_MODEL} bytes")
            return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise ModelError(f"{path} cannot be read, it is damaged or no model: {error}") from error


# What zipfile and numpy raise on files that were cut off, overwritten or made up; found by mutating files.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError,
    NotImplementedError, RuntimeError, MemoryError, SyntaxError, AttributeError,
)  # fmt: skip


def _array(content: bytes) -> npt.NDArray[np.generic]:
    """The array in the bytes of an .npy; ValueError where they are not just what their header says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the array format")
    if dtype.hasobject or dtype.kind not in "biufUS":
        raise ValueError("it holds objects, which are never loaded")
    rest = memoryview(content)[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(rest) or any(length < 0 for length in shape):
        raise ValueError("an array is not as long as it says")
    array = np.frombuffer(rest, dtype=dtype) if dtype.itemsize else np.zeros(shape, dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def _manifest(path: Path, packed: npt.NDArray[np.generic] | None) -> dict[str, Any]:
    try:
        manifest = json.loads(packed.tobytes()) if packed is not None else None
    except ValueError as error:
        raise ModelError(f"{path} is damaged: its manifest cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise ModelError(f"{path} has no manifest: it is no model of edge-agent")
    return manifest


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
