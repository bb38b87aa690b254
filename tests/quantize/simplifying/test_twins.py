"""Calls that compute the same are computed once: as a network, and all the way into both files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.simplifying.rebuild import nodes_of
from edgeship.quantize.simplifying.twins import twins_of, without_twins
from tests.support.networks import noise_for, randomize

IMAGE = (8, 8, 4)


def network(body: Callable[[tf.Tensor], list[tf.Tensor]]) -> tf_keras.Model:
    """A convolution, what `body` makes of it, and a classifier behind all of that."""
    image = layers.Input(IMAGE, name="image")
    parts = body(layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(image))
    joined = layers.Concatenate(name="joined")([layers.GlobalAveragePooling2D()(part) for part in parts])
    return randomize(tf_keras.Model(image, layers.Dense(3, name="scores")(joined), name="model"))


def conv(name: str, **options: object) -> layers.Layer:
    return layers.Conv2D(6, 3, padding="same", name=name, **options)


def pools(x: tf.Tensor) -> list[tf.Tensor]:
    """As in NASNet: two average pools of one tensor, one of them in a sum."""
    left, right = (layers.AveragePooling2D(3, 1, "same", name=name)(x) for name in ("left", "right"))
    return [layers.Add()([left, conv("other")(x)]), right]


def shared(x: tf.Tensor) -> list[tf.Tensor]:
    layer = conv("shared")
    return [layers.ReLU()(layer(x)), layer(x)]


def gates(x: tf.Tensor) -> list[tf.Tensor]:
    """A chain of two twins: the second pair reads what the first one makes."""
    product = conv("product")(x)
    one, two = (layers.Activation("sigmoid", name=name)(product) for name in ("one", "two"))
    return [layers.Multiply()([layers.MaxPooling2D(2)(one)] * 2), layers.MaxPooling2D(2)(two), product]


def upscaled(x: tf.Tensor) -> list[tf.Tensor]:
    return [layers.ReLU(4.0)(layers.UpSampling2D(2)(x)), conv("after")(layers.UpSampling2D(2)(x))]


FORMS = {"pools": (pools, 1), "shared": (shared, 1), "gates": (gates, 2), "upscaled": (upscaled, 1)}


@pytest.mark.parametrize("form", FORMS)
def test_twins_are_computed_once_and_the_answers_stay(form: str) -> None:
    make, count = FORMS[form]
    model = network(make)
    twins = twins_of(model)
    joined = without_twins(model, twins)
    assert len(twins.earlier) == count
    assert len(list(nodes_of(joined))) == len(list(nodes_of(model))) - count
    images = noise_for(model)
    np.testing.assert_array_equal(joined(images), model(images))


@pytest.mark.parametrize("form", [*FORMS, "equal weights"])
def test_both_files_are_integers(form: str) -> None:
    """The converter makes one operation of twins, and had two ranges left for it: it was computed in float."""
    def equal_weights(x: tf.Tensor) -> list[tf.Tensor]:
        return [layers.ReLU()(conv("one")(x)), conv("two")(x)]

    model = network(FORMS[form][0] if form in FORMS else equal_weights)
    if form not in FORMS:
        model.get_layer("two").set_weights(model.get_layer("one").get_weights())
    images = np.random.default_rng(0).random((64, *IMAGE), np.float32)
    quantized = edgeship.quantize_model(model, images)
    for format in ("tflite", "onnx"):  # each is held against its promises: no operation in float
        assert edgeship.inspect_file(quantized.convert(format)).form == "int8"
    if form not in FORMS:
        assert quantized.account.twins == (("two", "one"),)
        assert "computed once: two as one" in quantized.account.sentence


def test_what_differs_in_anything_is_no_twin() -> None:
    table = np.zeros(2000, np.float32)
    other = table.copy()
    other[1000] = 1  # where the text of a long array has dots

    def body(x: tf.Tensor) -> list[tf.Tensor]:
        flat = layers.Reshape((1, 1, 8 * 8 * 6))(x)
        return [
            conv("first")(x), conv("second")(x), conv("third", strides=2)(x), layers.MaxPooling2D(2)(x),
            layers.MaxPooling2D(3)(x), *(tf.add(layers.Conv2D(2000, 1)(flat), values) for values in (table, other)),
        ]

    model = network(body)
    assert twins_of(model).earlier == {} and without_twins(model, twins_of(model)) is model
    image = layers.Input((2000,))
    model = tf_keras.Model(image, [layers.ReLU()(tf.add(image, values)) for values in (table, other)])
    assert twins_of(model).earlier == {}
    model = tf_keras.Model(image, [layers.ReLU()(tf.add(image, values)) for values in (table, table)])
    assert len(twins_of(model).earlier) == 1  # the sums; the ReLUs are outputs


def test_a_layer_that_stays_in_float_is_no_twin_of_one_that_does_not() -> None:
    model = network(lambda x: [layers.ReLU()(conv("one")(x)), conv("two")(x)])
    model.get_layer("two").set_weights(model.get_layer("one").get_weights())
    quantized = insert_fake_quantization(model, input_ranges=[(0.0, 1.0)], keep_float=("two",))
    assert quantized.account.kept_weights == ("two",) and "one" in quantized.account.quantized


def test_outputs_keep_a_tensor_each() -> None:
    image = layers.Input(IMAGE)
    model = tf_keras.Model(image, [layers.MaxPooling2D(2, name=name)(image) for name in ("one", "two")])
    assert twins_of(model).earlier == {}
