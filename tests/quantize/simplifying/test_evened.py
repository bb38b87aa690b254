"""Channels that differ by orders of magnitude are made even by their weights, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.integers import sqnr_db
from edgeship.quantize.simplifying.evened import even_channels
from tests.support.networks import noise_for, randomize

IMAGE, CHANNELS = (8, 8, 3), 16
SIZES = np.geomspace(1e-2, 1e2, CHANNELS).astype(np.float32)


def network(
    between: Callable[[tf.Tensor], tf.Tensor], *, first: str = "conv", second: str = "dense", sizes: np.ndarray = SIZES
) -> tf_keras.Model:
    """Two weighted layers; the second one's weights take back what the sizes do to the first one's channels."""
    image = layers.Input(IMAGE, name="image")
    made = {
        "conv": lambda: layers.Conv2D(CHANNELS, 3, name="first"),
        "depthwise": lambda: layers.DepthwiseConv2D(3, name="first"),
        "dense": lambda: layers.Dense(CHANNELS, name="first"),
    }[first]
    x = layers.Conv2D(CHANNELS, 1, name="stem")(image) if first == "depthwise" else image
    x = layers.GlobalAveragePooling2D()(x) if first == "dense" else x
    x = between(made()(x))
    last = {
        "dense": lambda: layers.Dense(4, name="second"), "conv": lambda: layers.Conv2D(4, 3, name="second"),
        "depthwise": lambda: layers.DepthwiseConv2D(3, name="second"),
    }[second]()
    model = randomize(tf_keras.Model(image, last(x), name="model"))
    kernel, bias = model.get_layer("first").get_weights()
    sized = kernel * (sizes[:, None] if first == "depthwise" else sizes)
    model.get_layer("first").set_weights([sized, bias * sizes])
    kernel, bias = model.get_layer("second").get_weights()
    model.get_layer("second").set_weights([kernel / per_input(kernel, sizes), bias])
    return model


def per_input(kernel: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A factor for each input channel of a kernel, which it may read at several places behind a Flatten."""
    return np.tile(sizes, kernel.shape[-2] // len(sizes))[:, None]


FORMS = {
    "conv, ReLU, pool, dense": lambda: network(lambda x: layers.GlobalAveragePooling2D()(layers.ReLU()(x))),
    "conv, maximum, conv": lambda: network(lambda x: layers.MaxPooling2D(2)(layers.ReLU()(x)), second="conv"),
    "conv, padding, conv": lambda: network(lambda x: layers.ZeroPadding2D(1)(x), second="conv"),
    "conv, one pixel, dense": lambda: network(
        lambda x: layers.Flatten()(layers.ReLU()(layers.MaxPooling2D(6)(x))), first="conv"
    ),
    "dense, ReLU, dense": lambda: network(layers.ReLU(), first="dense"),
    "conv, flatten, dense": lambda: network(lambda x: layers.Flatten()(layers.MaxPooling2D(3)(layers.ReLU()(x)))),
    "conv, a sum of two of its own, dense": lambda: network(
        lambda x: layers.GlobalAveragePooling2D()(layers.Add()([layers.ReLU()(x), x]))
    ),
    "conv, leaky ReLU, larger, conv": lambda: network(
        lambda x: layers.UpSampling2D(2)(layers.LeakyReLU(0.25)(x)), second="conv"
    ),
    "conv, ReLU, depthwise": lambda: network(layers.ReLU(), second="depthwise"),
    "depthwise, ReLU, dense": lambda: network(
        lambda x: layers.GlobalMaxPooling2D()(layers.ReLU()(x)), first="depthwise"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_channel_is_lost_and_float_stays_bit_for_bit(form: str) -> None:
    model = FORMS[form]()
    images = np.random.default_rng(0).random((256, *IMAGE), np.float32)
    wanted = model(images).numpy()
    quantized = edgeship.quantize_model(model, images)
    assert quantized.account.evened == ("first",) and "channels made even: first" in quantized.account.sentence
    # The same network of even channels, quantized; a bit of difference is for the factors, which are powers of two.
    same = network_of_even_channels(form)
    least = sqnr_db(same(images).numpy(), edgeship.quantize_model(same, images).keras(images).numpy()) - 6.02
    assert sqnr_db(wanted, quantized.keras(images).numpy()) > least
    assert even_channels(model, kept=()).layers == ("first",)
    np.testing.assert_array_equal(model(images).numpy(), wanted)
    assert even_channels(model, kept=()).layers == ()


def network_of_even_channels(form: str) -> tf_keras.Model:
    """The form before its channels were given sizes."""
    model = FORMS[form]()
    first, second = model.get_layer("first"), model.get_layer("second")
    kernel, bias = first.get_weights()
    first.set_weights([kernel / (SIZES[:, None] if isinstance(first, layers.DepthwiseConv2D) else SIZES), bias / SIZES])
    kernel, bias = second.get_weights()
    second.set_weights([kernel * per_input(kernel, SIZES), bias])
    return model


def stream(x: tf.Tensor) -> tuple[tf.Tensor, dict[str, str]]:
    """A sum of two layers, read by a third and, as a gate has it, by the mean."""
    x = layers.Conv2D(CHANNELS, 3, padding="same", name="stem")(x)
    x = layers.Add()([x, layers.ReLU()(layers.Conv2D(CHANNELS, 3, padding="same", name="branch")(x))])
    gate = layers.Dense(CHANNELS, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D()(x))
    gated = layers.Multiply()([x, layers.Reshape((1, 1, CHANNELS))(gate)])
    return gated, {"stem": "made", "branch": "made and read", "gate": "read", "last": "read"}


def two_heads(x: tf.Tensor) -> tuple[tf.Tensor, dict[str, str]]:
    """One layer that two read, and a second one beside it in a concatenation."""
    x = layers.ReLU()(layers.Conv2D(CHANNELS, 3, padding="same", name="first")(x))
    left = layers.DepthwiseConv2D(3, padding="same", name="left")(x)
    return layers.Concatenate()([layers.Conv2D(CHANNELS, 1, name="right")(x), left]), {
        "first": "made", "left": "read", "right": "read",
    }


@pytest.mark.parametrize("form", [stream, two_heads])
def test_channels_of_several_makers_or_readers_are_made_even_together(
    form: Callable[[tf.Tensor], tuple[tf.Tensor, dict[str, str]]]
) -> None:
    image = layers.Input(IMAGE, name="image")
    x, uses = form(image)
    even = randomize(tf_keras.Model(image, layers.Conv2D(4, 3, name="last")(x), name="model"))
    model = tf_keras.models.clone_model(even)
    for layer in even.layers:
        own, weights = uses.get(layer.name, ""), layer.get_weights()
        if "read" in own:
            weights[0] = weights[0] / SIZES[:, None]
        if "made" in own:
            weights = [values * SIZES for values in weights]
        model.get_layer(layer.name).set_weights(weights)
    images = np.random.default_rng(0).random((256, *IMAGE), np.float32)
    quantized = edgeship.quantize_model(model, images)
    assert quantized.account.evened == tuple(name for name, own in uses.items() if "made" in own)
    least = sqnr_db(even(images).numpy(), edgeship.quantize_model(even, images).keras(images).numpy()) - 6.02
    assert sqnr_db(model(images).numpy(), quantized.keras(images).numpy()) > least
    wanted = model(images).numpy()
    even_channels(model, kept=())
    np.testing.assert_array_equal(model(images).numpy(), wanted)


def forked(x: tf.Tensor) -> tf.Tensor:
    """Read by a second operation, which would see the factors."""
    return layers.Add()([layers.ReLU()(x), layers.Activation("tanh")(x)])


@pytest.mark.parametrize("between", [
    layers.ReLU(6.0), layers.Activation("tanh"), layers.Activation("sigmoid"), forked,
], ids=["ReLU6", "tanh", "sigmoid", "two readers"])
def test_what_no_factor_passes_is_left_alone(between: Callable[[tf.Tensor], tf.Tensor]) -> None:
    image = layers.Input(IMAGE)
    x = between(layers.Conv2D(CHANNELS, 8, name="first")(image))
    model = randomize(tf_keras.Model(image, layers.Dense(4, name="second")(layers.Flatten()(x))))
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel * SIZES, bias * SIZES])
    before = model.get_weights()
    assert even_channels(model, kept=()).layers == ()
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_channels_that_one_scale_can_hold_or_that_do_not_count_are_left_alone() -> None:
    def relu(x: tf.Tensor) -> tf.Tensor:
        return layers.GlobalAveragePooling2D()(layers.ReLU()(x))

    assert even_channels(network(relu, sizes=np.geomspace(0.02, 1, CHANNELS).astype(np.float32)), kept=()).layers == ()
    assert even_channels(network(relu), kept=("second",)).layers == ()
    pruned = network(relu)
    kernel, bias = pruned.get_layer("second").get_weights()
    # The small channels are small behind the next layer too, as after pruning or a training that gave them up.
    pruned.get_layer("second").set_weights([kernel * SIZES[:, None], bias])
    assert even_channels(pruned, kept=()).layers == ()
    dead = network(relu)
    dead.get_layer("first").set_weights([weight * (SIZES > 0.1) for weight in dead.get_layer("first").get_weights()])
    wanted = dead(noise_for(dead)).numpy()
    assert even_channels(dead, kept=()).layers == ("first",)
    np.testing.assert_array_equal(dead(noise_for(dead)).numpy(), wanted)
