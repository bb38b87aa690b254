"""Weights rounded by what they do to answers."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.layer_names import wrapper_name
from edgeship.quantize.layerwise import Seen, adjust_layers
from edgeship.quantize.rounding import round_by_answers, rounded_codes
from tests.support.networks import EPS, quantized_model, randomize


def error_of(codes, weights, moments):
    difference = (codes - weights)[0]
    return np.einsum("ko,kj,jo->", difference, moments[0], difference)


def test_two_inputs_that_are_always_equal_round_in_opposite_directions():
    """Weights 3.4 and 5.4 of one input twice: nearest gives 3 + 5 = 8, the sum 8.8 is nearest to 9."""
    codes = rounded_codes(np.array([[[3.4], [5.4]]]), np.ones((1, 2, 2)), largest=127)
    assert codes.sum() == 9


def test_independent_inputs_round_to_the_nearest():
    weights = np.random.default_rng(0).uniform(-100, 100, (2, 9, 5))
    codes = rounded_codes(weights, np.stack([np.eye(9)] * 2), largest=127)
    np.testing.assert_array_equal(codes, np.rint(weights))


@pytest.mark.parametrize("count", [8, 60])
def test_the_error_of_the_answers_falls(count):
    generator = np.random.default_rng(count)
    inputs = np.maximum(generator.normal(size=(500, count)) @ generator.normal(size=(count, count)), 0)
    moments = (inputs.T @ inputs / 500)[None]
    weights = generator.uniform(-127, 127, (1, count, 20))
    weights[0, 0] = 127
    codes = rounded_codes(weights, moments, largest=127)
    assert error_of(codes, weights, moments) < 0.7 * error_of(np.rint(weights), weights, moments)
    assert np.abs(codes).max() == 127


def test_the_largest_weight_of_a_channel_stays():
    generator = np.random.default_rng(5)
    inputs = np.abs(generator.normal(size=(100, 1))) + 0.01 * generator.normal(size=(100, 6))
    weights = generator.uniform(-126, 126, (1, 6, 4))
    weights[0, 2] = [127, -127, 127, -127]
    codes = rounded_codes(weights, (inputs.T @ inputs / 100)[None], largest=127)
    np.testing.assert_array_equal(codes[0, 2], weights[0, 2])


@pytest.mark.parametrize("seed", range(5))
def test_no_output_is_worse_than_with_the_nearest_integers(seed):
    generator = np.random.default_rng(seed)
    weights = generator.uniform(-127, 127, (1, 4, 50))
    inputs = np.abs(generator.normal(size=(100, 4)))
    moments = inputs.T @ inputs / 100
    codes = rounded_codes(weights, moments[None], largest=127)
    found, nearest = ((inputs @ (made - weights)[0]) ** 2 for made in (codes, np.rint(weights)))
    assert np.all(found.mean(axis=0) <= nearest.mean(axis=0) * (1 + 1e-9))


def test_inputs_that_are_always_zero_do_no_harm():
    codes = rounded_codes(np.array([[[3.4], [-2.2]]]), np.zeros((1, 2, 2)), largest=127)
    assert codes.ravel().tolist() == [3, -2]


LAYERS = {
    "conv": lambda: layers.Conv2D(6, 3, strides=2, padding="same", name="it"),
    "grouped": lambda: layers.Conv2D(6, 3, groups=2, name="it"),
    "dilated": lambda: layers.Conv2D(6, 3, dilation_rate=2, padding="same", name="it"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="it"),
    "dense": lambda: layers.Dense(5, name="it"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_stays_on_its_grid_and_answers_nearer_to_float(name):
    image = layers.Input((9, 9, 4), name="image")
    model = randomize(tf_keras.Model(image, LAYERS[name]()(image)))
    quantized, noise = quantized_model(model, images=16)
    layer, errors = quantized.model.get_layer(wrapper_name("it")), []
    before, scales = layer.kernel_values, layer.kernel_scales

    def change(layer, seen: Seen):
        (inputs,) = seen.inputs
        with layer.kernel_in_float():
            wanted = layer(inputs).numpy()
        errors.append(np.mean((layer(inputs).numpy() - wanted) ** 2))
        round_by_answers(layer, seen)
        errors.append(np.mean((layer(inputs).numpy() - wanted) ** 2))

    # Behind a ReLU inputs have something in common.
    adjust_layers(quantized, [np.abs(noise)], change)
    after = layer.kernel_values
    np.testing.assert_allclose(layer.kernel_scales, scales, rtol=4 * EPS)
    steps = scales.reshape(before.shape[2:]) if name == "depthwise" else scales
    codes = after / steps
    np.testing.assert_allclose(codes, np.rint(codes), atol=127 * 4 * EPS)
    assert np.abs(after - before).max() > 0
    # All rows were seen, so that no output is worse; the errors are sums of float32 numbers a thousand times as large.
    assert errors[1] <= errors[0] * 1.001
