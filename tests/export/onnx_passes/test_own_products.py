"""A product that is read with and without a ReLU has two results on two grids, each an integer kernel in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.graph import graph_from_bytes

START = {"no bias": "zeros", "a bias": "random_uniform"}
INPUTS = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)


@pytest.mark.parametrize("bias", list(START))
@pytest.mark.parametrize("readers", ["the sum and a ReLU", "two ReLUs and the sum"])
def test_each_reader_has_an_integer_product_of_its_own(tmp_path: Path, bias: str, readers: str) -> None:
    tf_keras.utils.set_random_seed(1)
    given = layers.Input((8,), name="given")
    made = layers.Dense(16, bias_initializer=START[bias], name="made")(given)
    parts = [made, layers.ReLU(name="positive")(made)]
    if readers.startswith("two"):
        parts.append(layers.ReLU(6.0, name="capped")(made))
    out = layers.Dense(3, name="out")(layers.Add(name="sum")(parts))
    quantized = edgeship.quantize_model(tf_keras.Model(given, out, name="forked"), INPUTS)
    bundle = quantized.export(tmp_path / "bundle", onnx_variants=("u8u8",))
    onnx = graph_from_bytes(bundle.path("int8-ptq.onnx").read_bytes(), where=Path("int8-ptq.onnx"))
    products = [item for item in onnx.operations if item.kind in ("MatMul", "Gemm")]
    read = [name for item in onnx.operations for name in item.inputs]
    assert all(read.count(item.outputs[0]) == 1 for item in products)
    report = bundle.validate(INPUTS, runtimes=("keras", "litert", "onnxruntime"), latency_launches=1, latency_runs=2)
    assert (report.verdict, report.failures) == ("pass", ())
    (grid,) = report.to_dict()["grids"]
    assert grid["mismatches"] == () and grid["layer_max_lsb"] <= 1


class Probabilities(layers.Layer):
    """A dense layer and a softmax written by hand, which reads the logits twice."""

    def __init__(self, units: int, name: str) -> None:
        super().__init__(name=name)
        self.logits = layers.Dense(units, name="logits")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = self.logits(x)
        powers = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
        return powers / tf.reduce_sum(powers, -1, keepdims=True)


def test_a_product_that_is_kept_in_float_is_computed_once(tmp_path: Path) -> None:
    tf_keras.utils.set_random_seed(1)
    given = layers.Input((8,), name="given")
    out = Probabilities(3, name="out")(layers.Dense(16, activation="relu", name="made")(given))
    quantized = edgeship.quantize_model(tf_keras.Model(given, out, name="by_hand"), INPUTS, keep_float=["out"])
    bundle = quantized.export(tmp_path / "bundle", onnx_variants=("u8u8",))
    onnx = graph_from_bytes(bundle.path("int8-ptq.onnx").read_bytes(), where=Path("int8-ptq.onnx"))
    assert sum(item.kind in ("MatMul", "Gemm") for item in onnx.operations) == 2
    report = bundle.validate(INPUTS, runtimes=("keras", "litert", "onnxruntime"), latency_launches=1, latency_runs=2)
    assert (report.verdict, report.failures) == ("pass", ())
