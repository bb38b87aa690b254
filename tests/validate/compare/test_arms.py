"""Which artifacts are compared with which, and every pair that is refused, before anything runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeship.core.errors import ArtifactError, InputError, RefusedError
from edgeship.core.integers import dequantize
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
    assert np.abs(steps * spec.scale - bundle.golden.inputs[0][:1]).max() <= spec.scale / 2 + 1e-6
    (chosen,) = pair_arms(tiny_bundle, other, names=(onnx.name,)).pairs
    assert chosen.name == onnx.name


def test_bundles_of_two_inputs(two_ends_bundle: Path) -> None:
    golden = load_bundle(two_ends_bundle).golden.inputs
    for pair in pair_arms(two_ends_bundle, two_ends_bundle).pairs:
        assert pair.inputs is not None and pair.outputs is not None and pair.shifts == (0, 0)
        assert (len(pair.inputs), len(pair.outputs)) == (2, 2)
        for values, spec, wanted in zip(pair.example(pair.inputs), pair.inputs, golden, strict=True):
            assert values.shape == spec.shape and values.dtype == spec.dtype
            assert np.abs(dequantize(values, spec) - wanted[:1]).max() <= (spec.scale or 0) / 2 + 1e-6


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


A, B = ("a", TensorProto.FLOAT, [1, 4]), ("b", TensorProto.INT32, [1, 2, 3])


def write_onnx(path: Path, *inputs: tuple[str, int, list[int]]) -> Path:
    """An .onnx file that gives each input as it is: "a" as "a-out"."""
    nodes = [helper.make_node("Identity", [name], [f"{name}-out"]) for name, _, _ in inputs]
    ends = [
        [helper.make_tensor_value_info(f"{name}{suffix}", kind, shape) for name, kind, shape in inputs]
        for suffix in ("", "-out")
    ]
    graph = helper.make_graph(nodes, "g", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_several_inputs_get_noise_and_integers_that_may_be_words_zeros(tmp_path: Path) -> None:
    ends = [
        A, B, ("c", TensorProto.INT16, [1, 400]), ("d", TensorProto.BOOL, [2]), ("e", TensorProto.INT64, []),
        ("f", TensorProto.FLOAT, [5]), ("g", TensorProto.UINT8, [1, 400]),
    ]
    path = write_onnx(tmp_path / "x.onnx", *ends)
    (pair,) = pair_arms(path, path).pairs
    assert pair.inputs is not None and pair.outputs is not None and len(pair.outputs) == len(ends)
    arrays = pair.example(pair.inputs)
    found = {spec.name: (values.shape, values.dtype.name) for spec, values in zip(pair.inputs, arrays, strict=True)}
    assert found == {
        "a": ((1, 4), "float32"), "b": ((1, 2, 3), "int32"), "c": ((1, 400), "int16"), "d": ((1, 2), "bool"),
        "e": ((1,), "int64"), "f": ((1, 5), "float32"), "g": ((1, 400), "uint8"),
    }
    assert [bool(np.any(values)) for values in arrays] == [True, False, True, False, False, True, True]
    assert arrays[2].min() < -30000 and arrays[2].max() > 30000  # over the whole range


@pytest.mark.parametrize(("first", "second", "message"), [
    ([A, B], [A], "expected the same number of inputs, found 2 and 1"),
    ([A, B], [A, ("b", TensorProto.FLOAT, [1, 2, 3])], "the same input b, found int32 [1, 2, 3] and float32 [1, 2, 3]"),
    ([A, B], [("a", TensorProto.FLOAT, [1, 5]), B], "the same input a, found float32 [1, 4] and float32 [1, 5]"),
    ([A, B], [B, A], "expected the same order of inputs, found a, b and b, a"),
    ([], [], "expected a model with inputs, found none"),
])
def test_other_inputs_are_refused_by_name(
    first: list[tuple[str, int, list[int]]], second: list[tuple[str, int, list[int]]], message: str, tmp_path: Path
) -> None:
    paths = [write_onnx(tmp_path / f"{name}.onnx", *ends) for name, ends in (("first", first), ("second", second))]
    if not first:
        graph = helper.make_graph(
            [helper.make_node("Constant", [], ["y"], value_float=1.0)], "g", [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        )
        for path in paths:
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(RefusedError, match=re.escape(message)):
        pair_arms(*paths)


def test_what_an_application_must_follow_is_told_for_each_input(tmp_path: Path) -> None:
    before = [("a", TensorProto.INT8, [1, 4]), ("b", TensorProto.FLOAT, [1]), ("c", TensorProto.FLOAT, [1])]
    now = [("a", TensorProto.UINT8, [1, 4]), before[2], before[1]]
    paths = [write_onnx(tmp_path / f"{name}.onnx", *ends) for name, ends in (("before", before), ("now", now))]
    (pair,) = pair_arms(*paths).pairs
    assert pair.shifts == (128, 0, 0)
    assert pair.interface is not None and pair.interface.split("; ")[:2] == [
        "inputs: a, b, c before, in the order a, c, b now", "input a: int8 before, uint8 now",
    ]


def test_a_corrupt_file_never_reaches_a_runtime(tiny_bundle: Path, tmp_path: Path) -> None:
    tflite = artifact(tiny_bundle, "qat.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(tflite.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"broken\.tflite"):
        pair_arms(tflite, broken)
