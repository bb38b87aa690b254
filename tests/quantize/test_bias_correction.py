"""What rounding shifts in the mean is taken out by the bias."""

from __future__ import annotations

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.core.layer_names import wrapper_name
from edgeship.quantize.bias_correction import correct_bias
from edgeship.quantize.layerwise import adjust_layers
from tests.support.networks import quantized_model, randomize


def network(*, use_bias=True):
    image = layers.Input((6, 6, 3), name="image")
    x = layers.Conv2D(8, 3, use_bias=use_bias, name="first")(image)
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 3, name="second")(x))
    return randomize(tf_keras.Model(image, layers.Dense(3, name="last")(layers.Flatten()(x))))


def test_every_channel_has_the_mean_of_float_afterwards():
    model, names = network(), ("first", "second", "last")
    wanted = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    quantized, noise = quantized_model(model)
    found = tf_keras.Model(
        quantized.model.inputs, [quantized.model.get_layer(wrapper_name(name)).output for name in names]
    )

    def errors():
        pairs = zip(found(noise), wanted(noise), strict=True)
        return [np.mean(one - two, axis=tuple(range(two.shape.rank - 1))) for one, two in pairs]

    before = errors()
    adjust_layers(quantized, [noise[:10], noise[10:]], correct_bias)
    for old, new in zip(before, errors(), strict=True):
        # Means of sums of float32 numbers, some 100 products with values of up to about 100.
        assert np.abs(new).max() < 1e-3 < np.abs(old).max()


def test_biases_that_are_all_zero_stay_so():
    model = network()
    kernel, bias = model.get_layer("second").get_weights()
    model.get_layer("second").set_weights([kernel, np.zeros_like(bias)])
    quantized, noise = quantized_model(model)
    adjust_layers(quantized, [noise], correct_bias)
    np.testing.assert_array_equal(quantized.model.get_layer(wrapper_name("second")).layer.bias, 0)


def test_a_layer_without_bias_stays():
    quantized, noise = quantized_model(network(use_bias=False))
    weights = [weight.name for weight in quantized.model.weights]
    adjust_layers(quantized, [noise], correct_bias)
    assert [weight.name for weight in quantized.model.weights] == weights
