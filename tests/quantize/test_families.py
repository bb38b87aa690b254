"""Many families of models, each from a float Keras model to two integer files that both runtimes execute."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from benchmarks.networks import families
from benchmarks.networks.row import float_difference, measure
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import convert, quantized_model, run_tflite

# What ONNX Runtime computes in float, and why. Everything else it computes in integers.
IN_FLOAT = {
    # Its integer Resize cuts off what is behind the point instead of rounding; exact integer arithmetic around it
    # takes twice as long as float.
    "pyramid, bilinear": {"DequantizeLinear", "Resize", "QuantizeLinear"},
}
# Two kinds of kernels, or kernels and Keras, round differently by a step here and there, which moves an answer only
# where two classes are that close; a wrong graph agrees on 1 in 10.
AGREEMENT = 0.9


@pytest.mark.parametrize("name", families.SMALL)
def test_a_family_becomes_two_integer_files_that_agree(name):
    row = measure(name)
    assert row.float_difference == 0
    assert sorted(row.found) == sorted(row.expected)
    assert row.fully_integer, row.float_operations
    assert {operation.split(" ", 1)[0] for operation in row.executed.float_ops} == IN_FLOAT.get(name, set())
    assert row.executed.per_channel == row.executed.weighted
    assert row.agreement >= AGREEMENT
    assert row.fidelity >= AGREEMENT


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ResNet50V2"])
def test_a_published_network_is_planned_whole_in_integers(name):
    """Its conversion takes a minute and is part of benchmarks/families.py."""
    model = families.FAMILIES[name]()
    flat = lower(model)
    assert float_difference(model, flat) == 0
    account = insert_fake_quantization(flat, input_ranges=[(0.0, 1.0)]).account
    convolutions = [layer for layer in model.layers if "Conv2D" in type(layer).__name__]
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    assert len(account.quantized) == len(convolutions) + len(dense)
    assert not account.kept_float


def test_equal_biases_come_out_of_the_converter_as_they_went_in():
    """`conv + 3`: one constant for all channels, each of which has a scale of its own."""
    kernel = np.random.default_rng(0).normal(size=(1, 1, 4, 8)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)
    model = tf_keras.Sequential([
        layers.Input((6, 6, 4), name="image"), layers.Conv2D(8, 1, use_bias=False, name="conv"),
        layers.Rescaling(1.0, offset=3.0, name="shift"),
    ])
    model.layers[0].set_weights([kernel])
    quantized, noise = quantized_model(model)
    np.testing.assert_allclose(quantized.model.get_layer("quant_conv").layer.bias, 3.0, rtol=1e-6)
    content, _ = convert(quantized)
    (found,), (lsb,) = run_tflite(content, noise)
    # Keras and the integer kernel round the same sums; the bias itself is off by half of its own, smaller, step.
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=1.01 * lsb)


def test_a_max_pooling_that_an_average_pooling_reads_stays_an_integer():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.MaxPooling2D(name="largest")(layers.Conv2D(4, 3, activation="relu", name="first")(image))
    branches = [
        layers.Conv2D(4, 1, activation="relu", name="left")(x),
        layers.Conv2D(4, 1, activation="relu", name="right")(layers.AveragePooling2D(3, 1, "same", name="mean")(x)),
    ]
    model = tf_keras.Model(image, layers.Concatenate(name="both")(branches))
    _, graph = convert(quantized_model(model)[0])
    assert {operation.kind for operation in graph.operations} == {
        "CONV_2D", "MAX_POOL_2D", "DEPTHWISE_CONV_2D", "MUL", "CONCATENATION",
    }


def test_a_max_pooling_that_an_average_pooling_of_two_strides_reads_stays_an_integer():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.MaxPooling2D(name="largest")(layers.Conv2D(4, 3, activation="relu", name="first")(image))
    branches = [
        layers.Flatten(name="all")(x), layers.Flatten(name="means")(layers.AveragePooling2D(2, (2, 1), name="mean")(x)),
    ]
    model = tf_keras.Model(image, layers.Concatenate(name="both")(branches))
    _, graph = convert(quantized_model(model)[0])
    assert {operation.kind for operation in graph.operations} == {
        "CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "CONCATENATION",
    }
