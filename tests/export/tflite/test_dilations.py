"""Dilated convolutions of one tensor, with the same dilation: each is one operation of integers."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers as L

from edgeship.export.tflite.convert import convert_tflite
from edgeship.export.tflite.dilations import direct_dilations
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


def test_the_model_is_left_as_it_was():
    model = pair(KINDS["both"], "valid")
    noise = noise_for(model)
    before = model(noise)
    with direct_dilations(model):
        changed = [layer.name for layer in model.layers if {"call", "convolution_op"} & set(vars(layer))]
    assert changed == ["branch0", "branch1"]
    assert not any({"call", "convolution_op"} & set(vars(layer)) for layer in model.layers)
    np.testing.assert_array_equal(model(noise), before)
