from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.errors import BundleError
from edgeship.validate.subject.bundle import load_bundle


def test_a_bundle_is_read_whole(master_bundle: Path) -> None:
    bundle = load_bundle(master_bundle)
    assert bundle.path_of(bundle.manifest.artifacts[0]) == master_bundle / "int8.tflite"
    assert [array.shape for array in bundle.golden.inputs] == [(6, 8, 8, 1)]
    assert set(bundle.golden.expected) == {"int8.tflite", "int8.onnx"}


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx", "float.keras", "golden.npz"])
def test_missing_and_altered_files_are_named(bundle_folder: Path, name: str) -> None:
    path = bundle_folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{name}: altered .* expected SHA-256 \w{{64}}, found \w{{64}}; export"):
        load_bundle(bundle_folder)
    path.unlink()
    with pytest.raises(BundleError, match=rf"{name}: expected a file with SHA-256 .* export the bundle again"):
        load_bundle(bundle_folder)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: expected a bundle's manifest, found none"):
        load_bundle(tmp_path)


def test_names_that_point_nowhere(bundle_folder: Path) -> None:
    path = bundle_folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"same_grid_as": "int8.tflite"', '"same_grid_as": "other.tflite"'))
    with pytest.raises(BundleError, match=r"int8.onnx: same_grid_as: expected one of .* found 'other.tflite'"):
        load_bundle(bundle_folder)
    path.write_text(text.replace('"name": "int8.onnx"', '"name": "int8.tflite"'))
    with pytest.raises(BundleError, match="expected artifacts of different names"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(("change", "message"), [
    ({"inputs": None}, "inputs"),
    ({"float_outputs": np.zeros((6, 4), np.float32)}, r"float_outputs: expected .* \(6, 3\) .* found \(6, 4\)"),
    ({"test_float_top1": np.zeros(7, np.int64)}, r"test_float_top1: expected .* \(90,\) .* found \(7,\)"),
    ({"expected/int8.onnx": None}, r"expected/int8.onnx: expected .* found None"),
    ({"inputs": np.array([object()])}, "cannot be read so"),
])
def test_golden_arrays_of_another_form(
    bundle_folder: Path, resign: Any, change: dict[str, Any], message: str
) -> None:
    path = bundle_folder / "golden.npz"
    with np.load(path) as arrays:
        changed = {key: arrays[key] for key in arrays.files} | change
    np.savez(path, **{key: value for key, value in changed.items() if value is not None})
    resign(bundle_folder)
    bundle = load_bundle(bundle_folder)
    with pytest.raises(BundleError, match=message):
        _ = bundle.golden
