"""Channels between two layers of one size, and the same network in float."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from benchmarks.networks import families
from edgeship.core.integers import sqnr_db
from edgeship.quantize.equalization import equalize
from edgeship.quantize.lowering.lower import lower
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
    sizes = equalize(quantized, [noise[:8], noise[8:]])
    assert list(sizes) == (["first", "relu"] if relu else ["first"]) and sizes["first"].max() == 1
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
    assert equalize(quantized, [noise]) == {}
    for one, other in zip(weights, quantized.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_channels_that_an_output_shows_are_left_alone():
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="first")(image)
    y = layers.Conv2D(4, 3, padding="same", name="second")(x)
    quantized, noise = quantized_model(randomize(tf_keras.Model(image, layers.Add(name="sum")([x, y]))))
    assert equalize(quantized, [noise]) == equalize(quantized, [noise], jointly=True) == {}


def joined(x, sizes):
    """Two tensors side by side, one fifty times larger."""
    small = conv(4, "small", sizes=0.02)(x)
    return layers.Concatenate(name="joined")([small, conv(4, "large")(x)])


def added(x, sizes):
    x = conv(8, "stem", sizes=sizes)(x)
    return layers.Add(name="sum")([x, conv(8, "branch", sizes=sizes)(x)])


def read_twice(x, sizes):
    x = layers.ReLU(name="relu")(conv(8, "first", sizes=sizes)(x))
    return layers.Concatenate(name="both")([conv(4, "left")(x), conv(4, "right")(x)])


def conv(channels, name, *, sizes=None):
    layer = layers.Conv2D(channels, 3, padding="same", name=name)
    layer.sizes = sizes
    return layer


@pytest.mark.parametrize("form", [joined, added, read_twice])
def test_channels_of_several_makers_or_readers_are_nearer_to_float_together(form):
    image = layers.Input((8, 8, 3), name="image")
    x = form(image, SIZES)
    model = randomize(tf_keras.Model(image, layers.Dense(5, name="last")(layers.GlobalMaxPooling2D()(
        layers.Conv2D(6, 1, name="reads", activation="relu")(x)
    ))))
    scaled = {layer.name: layer.sizes for layer in model.layers if getattr(layer, "sizes", None) is not None}
    for layer in model.layers:
        if layer.name in scaled:
            layer.set_weights([values * scaled[layer.name] for values in layer.get_weights()])
    # What reads them evens it out, so that each channel counts.
    readers = {joined: ["reads"], added: ["branch", "reads"], read_twice: ["left", "right"]}[form]
    factors = np.repeat([0.02, 1.0], 4) if form is joined else SIZES
    for name in readers:
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel / factors[:, None], bias])
    quantized, noise = quantized_model(model)
    start, answers = quantized.model.get_weights(), {}
    wanted = model(noise).numpy()
    for jointly in (False, True):
        quantized.model.set_weights(start)
        equalize(quantized, [noise], jointly=jointly)
        quantized.check_in_float([noise], on="noise")
        calibrate(quantized, [noise], method="min-max")
        finish(quantized)
        answers[jointly] = sqnr_db(wanted, quantized.model(noise).numpy())
    assert answers[True] > answers[False] + 6  # a bit


@pytest.mark.parametrize("name", [
    "residual, squeeze and excite", "pre-activation", "inverted residual, hard-swish, squeeze and excite", "inception",
    "channel shuffle", "pyramid, nearest", "encoder and decoder", "ghost",
])
def test_every_family_stays_what_it_is_in_float(name):
    quantized, noise = quantized_model(lower(families.build(name)))
    assert equalize(quantized, [noise], jointly=True)
    quantized.check_in_float([noise], on="noise")
