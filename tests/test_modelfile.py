"""Model files: damaged, foreign or dangerous ones are refused with the reason, and never executed."""

from __future__ import annotations

import contextlib
import io
import json
import pickle  # to make the file that must never be loaded
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.contracts.plugs import Column
from edge_agent.errors import ModelError
from edge_agent.modelfile import read_arrays, read_model, write_model
from edge_agent_models.ensemble import EnsembleDetector
from edge_agent_models.rul.interval import Interval
from edge_agent_models.rul.model import RulModel
from edge_agent_models.rul.trees import Trees
from tests.models.plant import COLUMNS, machine, trained
from tests.models.plant import settings as health_settings

EXECUTED: list[str] = []


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return EXECUTED.append, ("executed",)


def rul_model(path: Path) -> RulModel:
    """A small model of remaining life, on disk."""
    trees = Trees(
        np.array([0], dtype=np.int32), np.array([0, 0, 0], dtype=np.int32), np.array([0.5, 0.0, 0.0]),
        np.array([True, False, False]), np.array([1, 1, 2], dtype=np.int32),
        np.array([2, 1, 2], dtype=np.int32), np.array([0.0, 3.0, 7.0]), 10.0,
    )  # fmt: skip
    model = RulModel(("heat",), 5, 50.0, trees, Interval(*np.arange(6.0).reshape(3, 2)))
    model.save(path, {"units": 9})
    return model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[RulModel, bytes]:
    """The small model and the bytes of its file."""
    path = tmp_path_factory.mktemp("small") / "m.npz"
    return rul_model(path), path.read_bytes()


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    """Arrays of every plain type, empty ones and single numbers included, and the manifest."""
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.array(2.5),
        "c": np.array(["x", "yz"]),
        "d": np.empty((0, 4)),
    }
    write_model(tmp_path / "m.npz", arrays, {"kind": "test", "schema": 3, "tags": ["é"]})
    found, manifest = read_model(tmp_path / "m.npz", "test", 3)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert manifest["tags"] == ["é"]
    assert json.loads((tmp_path / "m.json").read_text()) == manifest


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Another kind, another version, no manifest, no file, a file that is none."""
    path = tmp_path / "m.npz"
    write_model(path, {"a": np.arange(3)}, {"kind": "test", "schema": 1})
    with pytest.raises(ModelError, match="no rul model, but 'test'"):
        read_model(path, "rul", 1)
    with pytest.raises(ModelError, match="version 1 of the format; this edge-agent reads 2"):
        read_model(path, "test", 2)
    np.savez(path, a=np.arange(3))
    with pytest.raises(ModelError, match="no manifest"):
        read_model(path, "test", 1)
    with pytest.raises(ModelError, match="No such file"):
        read_model(tmp_path / "away.npz", "test", 1)
    path.write_text("not a model")
    with pytest.raises(ModelError, match="damaged or no model"):
        read_model(path, "test", 1)


def test_a_changed_array_is_noticed(tmp_path: Path) -> None:
    """By the checksum in the manifest, even where the archive's own checksums are right."""
    path = tmp_path / "m.npz"
    write_model(path, {"a": np.arange(3)}, {"kind": "test", "schema": 1})
    np.savez(path, a=np.arange(4), manifest=read_arrays(path)["manifest"])
    with pytest.raises(ModelError, match="checksum"):
        read_model(path, "test", 1)


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    """A pickle inside an array, or a file that is one: refused, and not executed."""
    path = tmp_path / "m.npz"
    np.savez(path, a=np.array([Trap()], dtype=object))
    with pytest.raises(ModelError, match="objects"):
        read_arrays(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError):
        read_arrays(path)
    assert EXECUTED == []


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A gigabyte of zeros packs into a megabyte; a header may claim any shape."""
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(65 * 1024 * 1024))
    with pytest.raises(ModelError, match="larger than"):
        read_arrays(path)
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(ModelError, match="not as long as it says"):
        read_arrays(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_are_refused_and_never_crash(
    tmp_path: Path, small: tuple[RulModel, bytes], data: st.DataObject
) -> None:
    """Cut off, overwritten, bytes inserted: the model as it was, or a ModelError; nothing else."""
    path = tmp_path / "m.npz"
    wanted, whole = small[0], bytearray(small[1])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "zero"])):
            case "flip":
                whole[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del whole[at : at + data.draw(st.integers(1, 200))]
            case "insert":
                whole[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case _:
                whole[at : at + 16] = bytes(16)
        if not whole:
            whole = bytearray(b"\0")
    path.write_bytes(whole)
    with contextlib.suppress(ModelError):
        found = RulModel.load(path)
        assert (found.tags, found.window, found.cap) == (wanted.tags, wanted.window, wanted.cap)
        np.testing.assert_array_equal(found.trees.value, wanted.trees.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forged_manifests_and_arrays_are_refused_and_never_crash(
    tmp_path: Path, small: tuple[RulModel, bytes], data: st.DataObject
) -> None:
    """Right checksums, wrong content: whatever a forger writes is used as numbers, or refused."""
    path = tmp_path / "m.npz"
    path.write_bytes(small[1])
    arrays, manifest = read_model(path, "rul", 1)
    anything = (
        st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2)
    )
    manifest[data.draw(st.sampled_from(["tags", "window", "cap"]))] = data.draw(anything)
    name = data.draw(st.sampled_from(sorted(arrays)))
    shape = data.draw(st.sampled_from([(), (0,), (1,), (3,), (2, 2)]))
    arrays[name] = np.full(
        shape, data.draw(st.integers(-3, 9)), dtype=data.draw(st.sampled_from(["f8", "i4", "U3"]))
    )
    write_model(path, arrays, manifest)
    try:
        model = RulModel.load(path)
    except ModelError:
        return
    model.at_each_row(np.zeros((3, len(model.tags))))


def test_a_detector_refuses_what_was_learned_on_other_tags(tmp_path: Path) -> None:
    """Other columns or roles are a ModelError with the reason; the detector goes on as it was."""
    detector, _ = trained(machine(400), 300)
    write_model(tmp_path / "m.npz", detector.save(), {"kind": "health", "schema": 1})
    arrays, _ = read_model(tmp_path / "m.npz", "health", 1)
    same = EnsembleDetector(COLUMNS, health_settings())
    same.load(arrays)
    assert same.phase is detector.phase
    other = EnsembleDetector([Column("pressure"), Column("flow")], health_settings())
    with pytest.raises(ModelError):
        other.load(arrays)
    assert len(other.update(np.array([1, 2]), np.zeros((2, 2)), np.ones(2, dtype=np.int8))) == 2
