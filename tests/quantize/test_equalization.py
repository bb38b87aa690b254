"""Channels between two layers of one size, and the same network in float."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.integers import sqnr_db
from edgeship.quantize.equalization import equalize
from edgeship.quantize.prepare import calibrate, finish
from tests.support.networks import quantized_model, randomize

SIZES = np.geomspace(0.02, 1.0, 8).astype(np.float32)


def network(*, second="depthwise", between=()):
    """Channels whose sizes differ 50 times (of 64 times they are made even before), and a layer that evens it out."""
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, name="first")(image)
    for layer in between:
        x = layer(x)
    made = {
        "depthwise": lambda: layers.DepthwiseConv2D(3, name="second"),
        "conv": lambda: layers.Conv2D(4, 3, name="second"),
    }[second]()
    model = randomize(tf_keras.Model(image, made(x)))
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel * SIZES, bias * SIZES])
    kernel, bias = model.get_layer("second").get_weights()
    model.get_layer("second").set_weights([kernel / SIZES[:, None], bias])
    return model


@pytest.mark.parametrize("second", ["depthwise", "conv"])
@pytest.mark.parametrize("relu", [True, False])
def test_integers_are_nearer_to_float_and_float_stays(second, relu):
    model = network(second=second, between=(layers.ReLU(name="relu"),) if relu else ())
    quantized, noise = quantized_model(model)
    wanted = model(noise).numpy()
    before = sqnr_db(wanted, quantized.model(noise).numpy())
    assert equalize(quantized, [noise[:8], noise[8:]]) == 1
    quantized.check_in_float([noise], on="noise")
    calibrate(quantized, [noise], method="min-max")
    finish(quantized)
    assert sqnr_db(wanted, quantized.model(noise).numpy()) > before + 6  # a bit


@pytest.mark.parametrize("between", [
    (layers.ReLU(6.0, name="relu6"),), (layers.Activation("tanh", name="tanh"),),
])
def test_what_does_not_pass_factors_is_left_alone(between):
    quantized, noise = quantized_model(network(between=between))
    weights = quantized.model.get_weights()
    assert equalize(quantized, [noise]) == 0
    for one, other in zip(weights, quantized.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_tensor_with_two_readers_is_left_alone():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="first")(image)
    y = layers.Conv2D(4, 3, padding="same", name="second")(x)
    quantized, noise = quantized_model(randomize(tf_keras.Model(image, layers.Add(name="sum")([x, y]))))
    assert equalize(quantized, [noise]) == 0
