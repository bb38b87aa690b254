"""Dilated and grouped convolutions: each is one operation of integers, under the name of its layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers as L

import edgeship
from edgeship.export.tflite.convert import convert_tflite
from edgeship.export.tflite.direct_products import direct_products
from edgeship.graph import read_tflite
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import convert, noise_for, quantized_model, randomize, run_tflite

KINDS = {
    "convolutions": [L.Conv2D, L.Conv2D], "depthwise": [L.DepthwiseConv2D, L.DepthwiseConv2D],
    "both": [L.Conv2D, L.DepthwiseConv2D],
}


def pair(kinds, padding):
    image = L.Input((14, 12, 4), name="image")
    x = L.Conv2D(5, 1, activation="relu", name="stem")(image)
    branches = [
        kind(*([5] if kind is L.Conv2D else []), 3, padding=padding, dilation_rate=2, name=f"branch{index}")(x)
        for index, kind in enumerate(kinds)
    ]
    return lower(randomize(tf_keras.Model(image, L.Add(name="sum")(branches), name="pair")))


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_they_are_integers_in_the_file(kinds, padding):
    quantized, noise = quantized_model(pair(kinds, padding))
    content, graph = convert(quantized)
    assert len(graph.operations) == 4
    assert {operation.kind for operation in graph.operations} <= {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD"}
    (found,), (lsb,) = run_tflite(content, noise)
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=2.01 * lsb)


def test_a_float_file_has_one_operation_for_each_too(tmp_path):
    model = pair(KINDS["both"], "same")
    graph = read_tflite(convert_tflite(model), where=tmp_path / "float32.tflite")
    assert len(graph.operations) == 4


@pytest.mark.parametrize("options", [
    {"groups": 2}, {"groups": 4, "kernel_size": 1}, {"groups": 2, "dilation_rate": 2}, {"groups": 2, "use_bias": False},
], ids=str)
def test_the_kernels_of_grouped_convolutions_are_found(options):
    """Two of them, as in ResNeXt, so that a name without a layer would be there twice."""
    x = image = L.Input((10, 10, 4), name="image")
    for name in ("first", "second"):
        x = L.Conv2D(**{"filters": 8, "kernel_size": 3, "padding": "same", "name": name, **options})(x)
        x = L.ReLU()(L.BatchNormalization()(x))
    model = tf_keras.Model(image, L.Dense(3, name="scores")(L.GlobalAveragePooling2D()(x)), name="grouped")
    images = np.random.default_rng(0).random((32, 10, 10, 4), np.float32)
    quantized = edgeship.quantize_model(model, images)
    file = read_tflite(quantized.convert("tflite"), where=Path("int8.tflite"))
    assert [item.weights.name for item in file.weighted_operations()] == [
        "first/kernel", "second/kernel", "scores/kernel",
    ]
    assert edgeship.inspect_file(quantized.convert("onnx")).form == "int8"
    floats = read_tflite(quantized.convert("tflite", scheme="float32"), where=Path("float32.tflite"))
    assert [item.weights.name.split("/")[0] for item in floats.weighted_operations()] == ["first", "second", "scores"]


def test_the_model_is_left_as_it_was():
    model = pair(KINDS["both"], "valid")
    noise = noise_for(model)
    before = model(noise)
    with direct_products(model):
        changed = [layer.name for layer in model.layers if {"call", "convolution_op"} & set(vars(layer))]
    assert changed == ["branch0", "branch1"]
    assert not any({"call", "convolution_op"} & set(vars(layer)) for layer in model.layers)
    np.testing.assert_array_equal(model(noise), before)
