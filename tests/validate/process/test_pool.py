"""A pool with a network of two inputs and two outputs, on each runtime of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import TensorSpec
from edgeship.core.errors import RuntimeFailure
from edgeship.core.integers import dequantize, quantize
from edgeship.validate.process.client import Worker
from edgeship.validate.process.pool import Pool
from edgeship.validate.runner.table import PROFILE, RESULTS
from edgeship.validate.targets.target import Target
from tests.support.two_ends import MAP, SCORES, examples, expected, onnx_file, tflite_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("two-ends")
    contents = {"float.tflite": tflite_file(), "int8.tflite": tflite_file(integers=True), "float.onnx": onnx_file()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def saved(folder: Path, *arrays: np.ndarray) -> tuple[Path, ...]:
    paths = tuple(folder / f"in-{number}.npy" for number in range(len(arrays)))
    for path, values in zip(paths, arrays, strict=True):
        np.save(path, values)
    return paths


def pool(path: Path, runtime: str, folder: Path) -> Pool:
    return Pool(
        "row", runtime=runtime, path=path, options={"threads": 1}, size=1, timeout_seconds=120, folder=folder,
        target=Target(),
    )


@pytest.mark.parametrize(("name", "runtime"), [
    ("float.tflite", "litert"), ("float.tflite", "litert-reference"), ("float.onnx", "onnxruntime"),
    ("float.onnx", "onnxruntime-unoptimized"),
])
def test_each_input_and_output_in_the_files_own_order(
    files: dict[str, Path], name: str, runtime: str, tmp_path: Path
) -> None:
    inputs = examples(5)
    with pool(files[name], runtime, tmp_path) as workers:
        (_, (scores, maps)), = workers.run([saved(tmp_path, *inputs)])
        assert [item["dtype"] for item in workers.loaded["inputs"]] == ["float32", "int32"]
        if runtime == "onnxruntime":
            assert workers.ask("plan")["plan"]["onnxruntime"]["events"]
    # A sum of 60 products of numbers below 4: float32 rounds each to 2^-24 of it at most.
    for found, wanted in zip((scores, maps), expected(*inputs), strict=True):
        assert found.shape == wanted.shape and np.abs(found - wanted).max() < 60 * 8 * 2.0**-24
    assert not list(tmp_path.glob("outputs-*"))


def test_integers_beside_words(files: dict[str, Path], tmp_path: Path) -> None:
    pictures, words = examples(5)
    with pool(files["int8.tflite"], "litert", tmp_path) as workers:
        specs = [
            TensorSpec(**{**item, "shape": tuple(item["shape"])})
            for item in (*workers.loaded["inputs"], *workers.loaded["outputs"])
        ]
        (_, found), = workers.run([saved(tmp_path, quantize(pictures, specs[0]), quantize(words, specs[1]))])
    assert [values.dtype.name for values in found] == ["int8", "int8"]
    for values, spec, wanted in zip(found, specs[2:], expected(pictures, words), strict=True):
        # Half a step each of the input, the weights and the output, seen through sums of 60 products: a few steps.
        assert np.abs(dequantize(values, spec) - wanted).max() < 8 * (spec.scale or 0)


@pytest.mark.usefixtures("real_workers")
def test_the_float_model_runs_in_batches_and_gives_every_output(tmp_path: Path) -> None:
    left, right = tf_keras.Input((3,), name="left"), tf_keras.Input((2, 2), name="right", dtype="int32")
    total = tf_keras.layers.Flatten()(tf_keras.layers.Embedding(5, 1)(right))
    model = tf_keras.Model([left, right], [tf_keras.layers.Dense(4)(left), total, left[:, 0]])
    model.save(tmp_path / "float.keras")
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(37, 3)).astype(np.float32), generator.integers(0, 5, (37, 2, 2)).astype(np.int32)
    with pool(tmp_path / "float.keras", "keras", tmp_path) as workers:
        (_, found), = workers.run([saved(tmp_path, *inputs)])
    wanted = [output.numpy() for output in model(list(inputs))]
    assert [values.shape for values in found] == [(37, 4), (37, 4), (37,)]
    assert all(np.allclose(values, own, atol=1e-6) for values, own in zip(found, wanted, strict=True))


def test_litert_takes_inputs_without_a_batch_axis(tmp_path: Path) -> None:
    function = tf.function(lambda a, b: {"product": a * b, "sum": tf.reduce_sum(a)}).get_concrete_function(
        tf.TensorSpec((5,), name="a"), tf.TensorSpec((), name="b")
    )
    path = tmp_path / "vector-and-number.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    vectors, numbers = np.arange(15, dtype=np.float32).reshape(3, 5), np.arange(3, dtype=np.float32)
    with pool(path, "litert", tmp_path) as workers:
        (_, (products, sums)), = workers.run([saved(tmp_path, vectors, numbers)])
    assert np.array_equal(products, vectors * numbers[:, None]) and np.array_equal(sums, vectors.sum(axis=1))


def test_the_wrong_number_of_files_is_an_error_of_the_row(files: dict[str, Path], tmp_path: Path) -> None:
    with (
        pool(files["float.onnx"], "onnxruntime", tmp_path) as workers,
        pytest.raises(RuntimeFailure, match=r"model's 2 inputs \(picture, words\), found 1"),
    ):
        list(workers.run([saved(tmp_path, examples(1)[0])]))


@pytest.mark.parametrize(("name", "runtime"), [("int8.tflite", "litert"), ("float.onnx", "onnxruntime")])
def test_a_profile_is_of_the_inputs_in_the_files_own_order(
    files: dict[str, Path], name: str, runtime: str, tmp_path: Path
) -> None:
    pictures, words = examples(1)
    inputs = list(map(str, saved(tmp_path, pictures if "float" in name else np.zeros(pictures.shape, np.int8), words)))
    with Worker("row", timeout_seconds=120) as worker:
        if runtime == "litert":
            worker.ask("probe", runtime=runtime, probe=PROFILE, path=str(files[name]), options={"threads": 1})
        else:
            worker.ask("load", runtime=runtime, path=str(files[name]), options={"threads": 1})
        answer = worker.ask("profile", inputs=inputs, runs=3, seconds=60.0, discarded=1)
    assert answer["inferences"] == 3 and len(answer["operations"]) >= 4


def test_every_tensor_is_kept_with_all_inputs(files: dict[str, Path], tmp_path: Path) -> None:
    pictures, words = examples(3)
    inputs = list(map(str, saved(tmp_path, np.zeros(pictures.shape, np.int8), words)))
    kept = tmp_path / "kept.npz"
    with Worker("row", timeout_seconds=120) as worker:
        path = str(files["int8.tflite"])
        worker.ask("probe", runtime="litert", probe=RESULTS, path=path, options={"threads": 1})
        names = worker.ask("tensors", inputs=inputs, outputs=str(kept))["names"]
    with np.load(kept) as arrays:
        shapes = [arrays[str(number)].shape for number in range(len(names))]
    assert (3, *SCORES) in shapes and (3, *MAP) in shapes
