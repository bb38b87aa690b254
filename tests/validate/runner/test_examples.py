"""Examples on their way into a runtime and out of it: any number of inputs and outputs, of any rank and type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeship.core.errors import RuntimeFailure
from edgeship.validate.process.pool import Pool
from edgeship.validate.runner.examples import join, read_examples, select
from edgeship.validate.targets.target import Target

ONE = [{"name": "x", "shape": [1, 3]}]


def saved(folder: Path, *arrays: np.ndarray) -> tuple[Path, ...]:
    paths = tuple(folder / f"in-{number}.npy" for number in range(len(arrays)))
    for path, values in zip(paths, arrays, strict=True):
        np.save(path, values)
    return paths


def run(path: Path, folder: Path, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    with Pool(
        "row", runtime="onnxruntime", path=path, options={"threads": 1}, size=1, timeout_seconds=60, folder=folder,
        target=Target(),
    ) as pool:
        (_, outputs), = pool.run([saved(folder, *arrays)])
    return outputs


def write_onnx(path: Path, nodes: Sequence[Sequence[str]], *ends: tuple[str, int, Sequence[int | str | None]]) -> Path:
    """An .onnx file of nodes "Kind input ... output"; ends called y... are outputs."""
    inputs, outputs = (
        [helper.make_tensor_value_info(*end) for end in ends if (end[0][0] == "y") == out] for out in (False, True)
    )
    made = [helper.make_node(kind, names, [out]) for kind, *names, out in nodes]
    graph = helper.make_graph(made, "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("shape", [[1], [1, 5], [5], [4, 5], [1, 2, 3, 4, 2], [], ["n", 5], [1, 0]])
def test_inputs_of_any_rank_with_a_batch_axis_of_1_or_without(shape: list[int | str], tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "x.onnx", [("Add", "a", "b", "y")], ("a", TensorProto.FLOAT, shape), ("b", TensorProto.FLOAT, shape),
        ("y", TensorProto.FLOAT, shape),
    )
    batched = bool(shape) and shape[0] in (1, "n")
    one = shape[1:] if batched else shape
    first, second = np.random.default_rng(0).normal(size=(2, 3, *map(int, one))).astype(np.float32)
    (found,) = run(path, tmp_path, first, second)
    assert found.dtype == np.float32 and np.array_equal(found, first + second)


@pytest.mark.parametrize("dtype", [
    "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "float16",
])
def test_inputs_and_outputs_of_every_type(dtype: str, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    path = write_onnx(
        tmp_path / "x.onnx", [("Identity", "a", "y0"), ("Identity", "b", "y1")],
        ("a", kind, [1, 4]), ("b", TensorProto.FLOAT, [1]), ("y0", kind, [1, 4]), ("y1", TensorProto.FLOAT, [1]),
    )
    values = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(dtype)
    found, numbers = run(path, tmp_path, values, np.arange(3, dtype=np.float32))
    assert found.dtype == values.dtype and np.array_equal(found, values)
    assert np.array_equal(numbers, [0, 1, 2])


def test_an_output_without_an_axis_for_the_example_gets_one(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "x.onnx", [("ReduceSum", "a", "sum"), ("Squeeze", "sum", "y0"), ("Shape", "a", "y1")],
        ("a", TensorProto.FLOAT, [1, 4]), ("y0", TensorProto.FLOAT, []), ("y1", TensorProto.INT64, [2]),
    )
    sums, shapes = run(path, tmp_path, np.arange(12, dtype=np.float32).reshape(3, 4))
    assert np.array_equal(sums, [6, 22, 38]) and np.array_equal(shapes, [[1, 4]] * 3)


def test_an_output_whose_size_depends_on_the_example_is_refused(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "x.onnx", [("NonZero", "a", "y")], ("a", TensorProto.FLOAT, [1, 4]),
        ("y", TensorProto.INT64, [2, "found"]),
    )
    with pytest.raises(RuntimeFailure, match=r"row: ValueError .* y: expected one shape for all examples, found"):
        run(path, tmp_path, np.array([[1, 0, 0, 0], [1, 1, 0, 0]], np.float32))


@pytest.mark.parametrize(("arrays", "message"), [
    ((), "expected one file for each of the model's 1 inputs .x., found 0"),
    ((np.zeros((2, 3)), np.zeros((2, 3))), "expected one file for each of the model's 1 inputs .x., found 2"),
    ((np.zeros((0, 3)),), "expected the same number of examples for each input, one or more; found .0."),
    ((np.float32(1),), "expected the same number of examples for each input, one or more; found .0."),
])
def test_files_that_are_no_examples_are_refused(
    arrays: tuple[np.ndarray, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_examples(list(map(str, saved(tmp_path, *arrays))), ONE)


def test_inputs_with_different_numbers_of_examples_are_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path, np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"the same number of examples .* found \[2, 3\]"):
        read_examples(list(map(str, paths)), ONE * 2)


def test_an_array_that_does_not_fit_is_handed_on_as_it_is() -> None:
    """Nothing is reshaped to make it fit: the runtime says what it expects."""
    (found,) = select([np.zeros((2, 3, 1))], ONE)
    assert found.shape == (1, 3, 1)


def test_batches_without_an_axis_for_their_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected outputs with 2 examples along their first axis, found .* \(3,\)"):
        join([(2, [np.zeros(3)])], ONE)
