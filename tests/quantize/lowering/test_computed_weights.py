"""Weights that are computed from variables, and constants that are computed from shapes: computed once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import convert, noise_for, quantized_model, randomize, run_tflite

SHAPE = (6, 5, 4)


class Standardized(layers.Conv2D):
    """Weight standardization."""

    def call(self, x):
        mean, variance = tf.nn.moments(self.kernel, axes=[0, 1, 2], keepdims=True)
        kernel = (self.kernel - mean) / tf.sqrt(variance + 1e-5)
        return self.activation(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), self.bias))


class Masked(layers.Dense):
    """A kernel times a mask: pruning by hand."""

    def call(self, x):
        mask = tf.constant(np.arange(self.units) % 2, tf.float32)
        return tf.matmul(x, self.kernel * mask) + self.bias


class Scaled(layers.DepthwiseConv2D):
    """A kernel over its norm, as spectral normalization has it."""

    def call(self, x):
        kernel = self.depthwise_kernel / tf.norm(self.depthwise_kernel)
        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID") + self.bias


class Softplus(layers.Layer):
    """A gain that is always positive."""

    def build(self, shape):
        self.gain = self.add_weight("gain", shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * tf.nn.softplus(self.gain)


class Product(layers.Layer):
    """A matrix of its own, multiplied in one of TensorFlow's ways."""

    def __init__(self, multiply, *, turned=False, **kwargs):
        super().__init__(**kwargs)
        self.multiply, self.turned = multiply, turned

    def build(self, shape):
        sizes = (3, shape[-1]) if self.turned else (shape[-1], 3)
        self.matrix = self.add_weight("matrix", shape=sizes)

    def call(self, x):
        return self.multiply(x, self.matrix)


def lowered(layer, shape=SHAPE):
    image = layers.Input(shape, name="image")
    model = randomize(tf_keras.Model(image, layer(image), name="model"))
    flat, noise = lower(model), noise_for(model)
    np.testing.assert_allclose(flat(noise), model(noise), rtol=1e-5, atol=1e-5)
    return flat


@pytest.mark.parametrize(("layer", "kind"), [
    (Standardized(5, 3, activation="relu", name="mine"), layers.Conv2D), (Masked(5, name="mine"), layers.Dense),
    (Scaled(3, name="mine"), layers.DepthwiseConv2D), (Softplus(name="mine"), flat_layers.ChannelScale),
], ids=["standardized", "masked", "scaled", "softplus"])
def test_a_computed_weight_is_a_weight_that_trains(layer, kind):
    flat = lowered(layer)
    made = [item for item in flat.layers if type(item) is kind]
    assert len(made) == 1 and made[0].trainable_weights
    content, _ = convert(quantized_model(flat)[0])
    assert content


@pytest.mark.parametrize(("layer", "shape"), [
    (Product(tf.matmul), (7, 4)), (Product(lambda x, w: tf.matmul(x, w, transpose_b=True), turned=True), (4,)),
    (Product(lambda x, w: tf.einsum("btc,cd->btd", x, w)), (7, 4)),
    (Product(lambda x, w: tf.einsum("...c,dc->...d", x, w), turned=True), (5, 4)),
    (Product(lambda x, w: tf.tensordot(x, w, 1)), (4,)),
    (Product(lambda x, w: tf.tensordot(x, w, [[2], [0]])), (7, 4)),
], ids=range(6))
def test_a_product_with_a_matrix_is_a_dense_layer(layer, shape):
    flat = lowered(layer, shape)
    assert [type(item) for item in flat.layers[1:]] == [layers.Dense] and flat.trainable_weights


def test_products_in_tensorflow_s_channels_first_form_are_layers_of_channels_last_images():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype(np.float32)

    def call(x):
        x = tf.nn.conv2d(x, kernel, [1, 1, 2, 2], "SAME", data_format="NCHW")
        x = tf.nn.bias_add(x, np.arange(6, dtype=np.float32), data_format="NCHW")
        return tf.nn.max_pool2d(x, 2, 2, "VALID", data_format="NCHW")

    flat = lowered(layers.Lambda(call, name="mine"), (4, 9, 8))
    assert {layers.Conv2D, layers.MaxPooling2D} <= {type(item) for item in flat.layers}
    assert not any(getattr(item, "data_format", "") == "channels_first" for item in flat.layers)


def coordinates(x):
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    rows = tf.tile(tf.reshape(tf.linspace(-1.0, 1.0, height), (1, height, 1, 1)), [batch, 1, width, 1])
    return tf.concat([x, rows], -1)


def meshgrid(x):
    rows, columns = tf.meshgrid(tf.range(x.shape[1]), tf.range(x.shape[2]), indexing="ij")
    grid = tf.cast(tf.stack([rows, columns], -1), tf.float32)[None] / 10.0
    return tf.concat([x, tf.broadcast_to(grid, [tf.shape(x)[0], *grid.shape[1:]])], -1)


@pytest.mark.parametrize(("call", "kinds"), [
    (coordinates, {flat_layers.Constant, layers.Concatenate}), (meshgrid, {flat_layers.Constant, layers.Concatenate}),
    (lambda x: tf.concat([x, tf.fill(tf.stack([tf.shape(x)[0], 6, 5, 1]), 0.5)], -1),
     {flat_layers.Constant, layers.Concatenate}),
    (lambda x: tf.concat([x, tf.zeros_like(x)], -1), {flat_layers.Constant, layers.Concatenate}),
    (lambda x: x + 0.5 * tf.ones_like(x), {flat_layers.ArrayShift}),
    (lambda x: x * tf.linspace(0.0, 1.0, tf.shape(x)[3]), {flat_layers.ChannelScale}),
], ids=["coordinates", "meshgrid", "fill", "zeros like", "ones like", "linspace"])
def test_what_is_computed_from_shapes_is_a_constant(call, kinds):
    flat = lowered(layers.Lambda(call, name="mine"))
    assert {type(item) for item in flat.layers[1:]} == kinds
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    assert all(tensor.dtype in ("int8", "int32") for tensor in graph.tensors.values())
    (found,), (lsb,) = run_tflite(content, noise)
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=1.01 * lsb)


def test_random_numbers_are_no_constant():
    image = layers.Input(SHAPE, name="image")
    outputs = layers.Lambda(lambda x: tf.concat([x, tf.random.normal(tf.shape(x))], -1), name="mine")(image)
    with pytest.raises(Exception, match="does a layer draw random numbers in inference"):
        lower(tf_keras.Model(image, outputs, name="model"))


@pytest.mark.parametrize(("mode", "value"), [("REFLECT", 0.0), ("SYMMETRIC", 0.0), ("CONSTANT", 1.0), ("CONSTANT", -9)])
@pytest.mark.parametrize("paddings", [
    [[0, 0], [1, 1], [2, 2], [0, 0]], [[0, 0], [0, 3], [0, 0], [0, 0]], [[0, 0], [2, 0], [1, 0], [1, 2]],
], ids=["image", "one end", "channels too"])
def test_other_padding_than_by_zero_moves_integers(mode, value, paddings):
    pad = layers.Lambda(lambda x: tf.pad(x, paddings, mode=mode, constant_values=value), name="mine")
    flat = lowered(pad)
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    assert {operation.kind for operation in graph.operations} <= {"STRIDED_SLICE", "CONCATENATION", "SLICE"}
    (found,), _ = run_tflite(content, noise)
    np.testing.assert_array_equal(found, quantized.model(noise))
