"""Which artifacts are compared with which, and every pair that is refused, before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.errors import ArtifactError, InputError, RefusedError
from edgeship.validate.compare.arms import pair_arms
from edgeship.validate.subject.bundle import load_bundle


def artifact(folder: Path, ending: str) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name.endswith(ending))


def test_two_files(tiny_bundle: Path, tmp_path: Path) -> None:
    first = artifact(tiny_bundle, "qat.tflite")
    second = tmp_path / "other.tflite"
    shutil.copy(first, second)
    (pair,) = pair_arms(first, second).pairs
    assert pair.name == f"{first.name} -> other.tflite"
    assert pair.inputs is not None and [spec.dtype for spec in pair.inputs] == ["int8"]
    (image,) = pair.example(pair.inputs)
    assert image.dtype == np.int8 and image.shape == pair.inputs[0].shape
    assert len(np.unique(image)) > 100  # noise over the whole range, the same each time
    assert np.array_equal(image, pair.example(pair.inputs)[0])
    assert pair_arms(first, first).pairs[0].name == first.name


def test_two_bundles_by_name(tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    found = pair_arms(tiny_bundle, other)
    bundle = load_bundle(tiny_bundle)
    assert [pair.name for pair in found.pairs] == [item.name for item in bundle.manifest.artifacts]
    assert found.notes == ()
    onnx = next(pair for pair in found.pairs if pair.name.endswith("qat.onnx"))
    assert onnx.inputs is not None
    (spec,), (image,) = onnx.inputs, onnx.example(onnx.inputs)
    assert spec.scale is not None  # which the file itself does not have
    steps = image.astype(float) - (spec.zero_point or 0)
    assert np.abs(steps * spec.scale - bundle.golden.inputs[:1]).max() <= spec.scale / 2 + 1e-6
    (chosen,) = pair_arms(tiny_bundle, other, names=(onnx.name,)).pairs
    assert chosen.name == onnx.name


def test_bad_names_and_paths(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--artifact nothing: expected one that both bundles have: .*tflite"):
        pair_arms(tiny_bundle, tiny_bundle, names=("nothing",))
    tflite = artifact(tiny_bundle, "qat.tflite")
    with pytest.raises(InputError, match="expected two files or two bundle folders"):
        pair_arms(tiny_bundle, tflite)
    with pytest.raises(ArtifactError, match=r"none\.tflite: expected a file or a bundle folder, found none"):
        pair_arms(tflite, tmp_path / "none.tflite")
    with pytest.raises(InputError, match="--artifact chooses among the artifacts of two bundles"):
        pair_arms(tflite, tflite, names=("x",))
    (tmp_path / "model.pb").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"model\.pb: expected a \.tflite, \.onnx or \.ort file"):
        pair_arms(tmp_path / "model.pb", tflite)


def test_what_cannot_be_exchanged_is_refused(tiny_bundle: Path) -> None:
    tflite, onnx = artifact(tiny_bundle, "qat.tflite"), artifact(tiny_bundle, "qat.onnx")
    with pytest.raises(RefusedError, match="expected two artifacts of one format, found tflite and onnx"):
        pair_arms(tflite, onnx)
    with pytest.raises(RefusedError, match=r"expected the same input, found float32 .* and uint8"):
        pair_arms(artifact(tiny_bundle, "float32.onnx"), onnx)


def test_a_corrupt_file_never_reaches_a_runtime(tiny_bundle: Path, tmp_path: Path) -> None:
    tflite = artifact(tiny_bundle, "qat.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(tflite.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"broken\.tflite"):
        pair_arms(tflite, broken)
