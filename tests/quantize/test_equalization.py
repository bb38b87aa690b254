"""Channels between two layers of one size, and the same network in float."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.integers import sqnr_db
from edgeship.quantize.equalization import LARGEST_RATIO, equalize, factors
from edgeship.quantize.prepare import calibrate, finish
from tests.support.networks import quantized_model, randomize

SIZES = np.geomspace(0.01, 1.0, 8).astype(np.float32)


def test_channels_in_front_of_a_depthwise_layer_become_equal():
    largest = np.array([8.0, 2.0, 4.0])
    np.testing.assert_allclose(largest / factors(largest, None), 8.0)


def test_half_of_the_ratio_goes_to_the_weights():
    largest, weights = np.array([9.0, 1.0]), np.array([1.0, 1.0])
    divisors = factors(largest, weights)
    np.testing.assert_allclose(divisors, [1.0, 1 / 3])
    # As far apart as the weights are then: 3 to 1 the one, 1 to 3 the other.
    np.testing.assert_allclose(largest / divisors, [9.0, 3.0])
    np.testing.assert_allclose(weights * divisors, [1.0, 1 / 3])


def test_no_channel_is_enlarged_without_bounds_and_dead_ones_stay():
    divisors = factors(np.array([1.0, 1e-6, 0.0]), None)
    np.testing.assert_allclose(divisors, [1.0, 1 / LARGEST_RATIO, 1.0])
    np.testing.assert_array_equal(factors(np.zeros(3), None), 1.0)


def network(*, second="depthwise", between=()):
    """Channels whose sizes differ 100 times, and a layer behind that evens it out."""
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
