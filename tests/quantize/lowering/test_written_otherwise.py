"""Operators that say in other words what a layer does: leaky ReLUs, dense layers, constants that train, extremes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model.flat_layers import Constant
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, noise_for, quantized_model, randomize
from tests.support.two_files import codes_of, largest_difference, onnx_answers, onnx_of, tflite_answers

IMAGE, ROWS = (6, 5, 4), (6, 4)


class Own(layers.Layer):
    """A function of the input and of variables."""

    def __init__(self, function, *shapes, **kwargs):
        super().__init__(name="own", **kwargs)
        self.function, self.shapes = function, shapes

    def build(self, shape):
        self.variables_of_its_own = [
            self.add_weight(f"w{place}", shape=item, initializer="ones") for place, item in enumerate(self.shapes)
        ]

    def call(self, x):
        return self.function(x, *self.variables_of_its_own)


def lowered(layer, shape=IMAGE):
    image = layers.Input(shape, name="image")
    model = randomize(tf_keras.Model(image, layer(image), name="model"))
    flat, noise = lower(model), noise_for(model)
    np.testing.assert_allclose(flat(noise), model(noise), rtol=1e-5, atol=1e-5)
    assert len(flat.trainable_weights) == len(model.trainable_weights)
    return flat


def kinds(flat):
    return [type(item) for item in flat.layers[1:]]


def assert_both_files_agree(flat, *, steps):
    assert_same_to_rounding(flat, simplify(flat), products=200)
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    assert all(tensor.dtype in ("int8", "int32") for tensor in graph.tensors.values())
    codes = codes_of(content, {"image": noise})
    answers = tflite_answers(content, codes)
    assert largest_difference(onnx_answers(onnx_of(content), codes), answers) <= steps
    assert max(np.ptp(values.astype(int)) for values in answers.values()) > 20


@pytest.mark.parametrize("function", [
    lambda x: tf.where(x > 0, x, 0.2 * x), lambda x: tf.where(x >= 0.0, x, x * 0.2),
    lambda x: tf.where(x < 0, 0.2 * x, x), lambda x: tf.where(tf.less(0.0, x), x, 0.2 * x),
    lambda x: tf.where(tf.math.less_equal(x, tf.zeros_like(x)), 0.2 * x, x),
    lambda x: tf.maximum(x, 0.2 * x), lambda x: tf.maximum(0.2 * x, x), lambda x: tf.minimum(3.0 * x, x),
    lambda x: tf.compat.v1.where(x > 0, x, 0.2 * x),
], ids=range(9))
def test_a_leaky_relu_by_hand(function):
    flat = lowered(Own(function))
    assert kinds(flat) == [layers.LeakyReLU]


@pytest.mark.parametrize("function", [
    lambda x: tf.where(x > 0, x, 0.0), lambda x: tf.where(x > 0, x, tf.zeros_like(x)),
    lambda x: tf.where(tf.math.greater(0.0, x), np.zeros((6, 5, 4), np.float32), x),
], ids=range(3))
def test_a_relu_by_hand(function):
    assert kinds(lowered(Own(function))) == [layers.ReLU]


@pytest.mark.parametrize("function", [
    lambda x: tf.where(x > 0.5, x, 0.2 * x), lambda x: tf.where(x > 0, 0.2 * x, x), lambda x: tf.where(x > 0, x, x + 1),
    lambda x: tf.where(x > 0, x, -0.2 * x), lambda x: tf.where(x[..., ::-1] > 0, x, 0.2 * x),
], ids=range(5))
def test_another_choice_is_no_leaky_relu(function):
    assert not {layers.LeakyReLU, layers.ReLU} & set(kinds(lowered(Own(function))))


@pytest.mark.parametrize("function", [
    lambda x: tf.maximum(x[..., :2], x[..., 2:]), lambda x: tf.minimum(x, -0.5 * x),
    lambda x: layers.Maximum()([x[..., :1], x[..., 1:2], x[..., 2:3]]),
    lambda x: tf.maximum(x, tf.reduce_mean(x, [1, 2], keepdims=True)),
], ids=["maxout", "minimum", "of three", "spread"])
def test_the_larger_and_the_smaller_are_sums_and_a_relu(function):
    """An addition is rounded once more in one of the two; there are two additions in a row."""
    assert_both_files_agree(lowered(Own(function)), steps=2)


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (Own(lambda x, w: tf.einsum("bhwc,hwcd->bd", x, w), (6, 5, 4, 3)), IMAGE, [layers.Reshape, layers.Dense]),
    (Own(lambda x, w: tf.einsum("btc,chd->bthd", x, w), (4, 2, 3)), ROWS, [layers.Dense, layers.Reshape]),
    (Own(lambda x, w: tf.einsum("bthd,hdc->btc", x, w), (6, 5, 4)), (2, 6, 5), [layers.Reshape, layers.Dense]),
    (Own(lambda x, w: tf.einsum("btc,ts->bsc", x, w), (6, 3)), ROWS, [layers.Permute, layers.Dense, layers.Permute]),
    (Own(lambda x, w: tf.einsum("dc,...c->...d", w, x), (3, 4)), IMAGE, [layers.Dense]),
    (Own(lambda x, w: tf.tensordot(x, w, [[1, 3], [2, 0]]), (4, 3, 6)), IMAGE,
     [layers.Permute, layers.Reshape, layers.Dense]),
    (Own(lambda x, w: tf.tensordot(x, w, 2), (5, 4, 3)), IMAGE, [layers.Reshape, layers.Dense]),
    (layers.EinsumDense("btc,cd->btd", (None, 3), bias_axes="d", name="own"), ROWS, None),
    (layers.EinsumDense("...c,cd->...d", 3, bias_axes="d", activation="relu", name="own"), IMAGE, None),
    (layers.EinsumDense("btc,chd->bthd", (None, 2, 3), bias_axes="hd", activation="relu", name="own"), ROWS, None),
], ids=range(10))
def test_a_product_over_several_axes_is_a_dense_layer(layer, shape, expected):
    flat = lowered(layer, shape)
    assert kinds(flat) == expected or (expected is None and layers.Dense in kinds(flat))
    assert_both_files_agree(flat, steps=1)


def test_a_product_of_its_own_kernel_for_each_head_is_none_of_a_matrix():
    layer = layers.EinsumDense("bthd,hdc->bthc", (None, 5, 3), name="own")
    assert layers.EinsumDense in kinds(lowered(layer, IMAGE))


@pytest.mark.parametrize(("layer", "shape"), [
    (Own(lambda x, w: tf.concat([x, tf.ones_like(x[..., :1]) * w], -1), (1,)), IMAGE),
    (Own(lambda x, w: tf.concat([tf.zeros_like(x) + w, x], -1), (1, 1, 4)), IMAGE),
    (Own(lambda x, w: tf.concat([tf.tile(w, [tf.shape(x)[0], 1, 1]), x], 1), (1, 1, 4)), ROWS),
    (Own(lambda x, w: tf.concat([tf.broadcast_to(tf.nn.relu(w), [tf.shape(x)[0], 2, 4]), x], 1), (1, 2, 4)), ROWS),
], ids=["ones like", "zeros like", "class token", "broadcast"])
def test_a_variable_for_every_example_is_a_constant_that_trains(layer, shape, tmp_path):
    flat = lowered(layer, shape)
    constant = next(item for item in flat.layers if isinstance(item, Constant))
    assert constant.trainable_weights
    assert_both_files_agree(flat, steps=0)
    flat.save(tmp_path / "flat.keras")
    loaded, noise = tf_keras.models.load_model(tmp_path / "flat.keras", compile=False), noise_for(flat)
    np.testing.assert_array_equal(loaded(noise), flat(noise))


def test_ones_times_a_variable_that_is_added_is_a_shift_that_trains():
    flat = lowered(Own(lambda x, w: x + w * tf.ones_like(x), (4,)))
    assert not any(isinstance(item, Constant) for item in flat.layers) and flat.trainable_weights
    assert_both_files_agree(flat, steps=1)
