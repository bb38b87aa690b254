"""Every operator in the table: the lowered layer is of the expected class and computes the same, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.lowering.lower import lower

K = tf_keras.activations
CONSTANT = np.arange(1, 5, dtype=np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 4, 6)).astype(np.float32)


class Calling(layers.Layer):
    """A composite whose call() is a function of its input."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def lowered(function, shape=(8, 8, 4), *, batch=None):
    image = layers.Input(shape, batch_size=batch, name="image")
    outputs = Calling(function, name="mine")(image)
    model = tf_keras.Model(image, outputs, name="model")
    flat = lower(model)
    noise = np.random.default_rng(0).normal(size=(batch or 3, *shape)).astype(np.float32)
    for one, other in zip(tf.nest.flatten(model(noise)), tf.nest.flatten(flat(noise)), strict=True):
        np.testing.assert_array_equal(one, other)
    return flat


def kinds(flat):
    return [type(layer).__name__ for layer in flat.layers if not isinstance(layer, layers.InputLayer)]


def shuffle(x):
    groups = tf.reshape(x, [tf.shape(x)[0], x.shape[1], x.shape[2], 2, 2])
    return tf.reshape(tf.transpose(groups, [0, 1, 2, 4, 3]), tf.shape(x))


def unpacked(x):
    _, height, width, channels = tf.unstack(tf.shape(x))
    return tf.reshape(x, [-1, height * width, channels])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + x, ["Add"]),
        (lambda x: tf.add(x, 2), ["Rescaling"]),
        (lambda x: 2.5 + x, ["Rescaling"]),
        (lambda x: x - 0.1, ["Rescaling"]),
        (lambda x: 0.1 - x, ["Rescaling"]),
        (lambda x: x - tf.nn.relu(x), ["Activation", "Subtract"]),
        (lambda x: -x, ["Rescaling"]),
        (lambda x: 3 * x, ["Rescaling"]),
        (lambda x: x * x, ["Multiply"]),
        (lambda x: tf.square(x), ["Multiply"]),
        (lambda x: x * CONSTANT, ["ChannelScale"]),
        (lambda x: CONSTANT.reshape(1, 1, 1, 4) + x, ["ChannelShift"]),
        (lambda x: x - CONSTANT, ["ChannelShift"]),
        (lambda x: CONSTANT - x, ["Rescaling", "ChannelShift"]),
        (lambda x: x + np.arange(8 * 8 * 4, dtype=np.float32).reshape(8, 8, 4), ["ArrayShift"]),
        (lambda x: x / 4.0, ["Rescaling"]),
        (lambda x: x / 6.0, ["DivideBy"]),
        (lambda x: tf.divide(x, CONSTANT), ["DivideBy"]),
        (lambda x: tf.add_n([x, x, x]), ["Add"]),
        (lambda x: x * tf.reduce_mean(x, [1, 2], keepdims=True), ["GlobalAveragePooling2D", "Multiply"]),
        (lambda x: tf.maximum(x, 0.0), ["ReLU"]),
        (lambda x: tf.minimum(6.0, x), ["Clip"]),
        (lambda x: tf.maximum(x, -x), ["Rescaling", "Maximum"]),
        (lambda x: tf.minimum(x, -x), ["Rescaling", "Minimum"]),
        (lambda x: tf.clip_by_value(x, 0.0, 1.0), ["ReLU"]),
        (lambda x: tf.clip_by_value(x, -1.0, 0.5), ["Clip"]),
        (tf.nn.relu, ["Activation"]),
        (tf.nn.relu6, ["ReLU"]),
        (lambda x: tf.nn.leaky_relu(x, 0.1), ["LeakyReLU"]),
        (tf.sigmoid, ["Activation"]),
        (tf.tanh, ["Activation"]),
        (tf.nn.silu, ["Activation"]),
        (tf.nn.elu, ["Activation"]),
        (tf.nn.selu, ["Activation"]),
        (tf.nn.gelu, ["Activation"]),
        (lambda x: 0.5 * x * (1.0 + tf.math.erf(x / np.sqrt(2.0))), ["ErfGelu"]),
        (lambda x: x * (tf.math.erf(x / tf.sqrt(2.0)) + 1.0) / 2.0, ["ErfGelu"]),
        (lambda x: x * (0.5 * (1 + tf.math.erf(x * 0.70710678))), ["ErfGelu"]),
        (tf.nn.softplus, ["Activation"]),
        (tf.nn.softmax, ["Softmax"]),
        (lambda x: x * tf.nn.relu6(x + 3.0) * (1 / 6), ["Rescaling", "ReLU", "Multiply", "Rescaling"]),
        (K.relu, ["Activation"]),
        (lambda x: K.relu(x, max_value=6.0), ["ReLU"]),
        (K.hard_sigmoid, ["Rescaling", "Rescaling", "ReLU"]),
        (K.swish, ["Activation"]),
        (K.mish, ["Activation", "Activation", "Multiply"]),
        (lambda x: tf.concat([x, -x], -1), ["Rescaling", "Concatenate"]),
        (lambda x: tf.stack([x, -x], 1), ["Rescaling", "Reshape", "Reshape", "Concatenate"]),
        (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]), ["ZeroPadding2D"]),
        (lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [2, 2]]), ["Pad"]),
        (lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT"), ["Pad"]),
        (lambda x: tf.reshape(x, [-1, 64, 4]), ["Reshape"]),
        (lambda x: tf.reshape(x, [tf.shape(x)[0], -1]), ["Reshape"]),
        (unpacked, ["Reshape"]),
        (lambda x: tf.squeeze(tf.expand_dims(x, 1), 1), ["Reshape", "Reshape"]),
        (lambda x: x[:, None], ["Reshape"]),
        (shuffle, ["Reshape", "Permute", "Reshape"]),
        (lambda x: x[..., :2], ["StridedSlice"]),
        (lambda x: x[:, ::2, 1:-1], ["StridedSlice"]),
        (lambda x: x[:, 0], ["StridedSlice"]),
        (lambda x: tf.slice(x, [0, 0, 0, 1], [-1, 8, 8, 2]), ["StridedSlice"]),
        (lambda x: tf.split(x, 2, axis=-1), ["StridedSlice", "StridedSlice"]),
        (lambda x: tf.split(x, [1, -1], axis=3), ["StridedSlice", "StridedSlice"]),
        (lambda x: tf.unstack(x, axis=3), ["StridedSlice"] * 4),
        (lambda x: tf.identity(tf.stop_gradient(tf.cast(x, tf.float32))), []),
        (lambda x: tf.reduce_mean(x, [1, 2]), ["GlobalAveragePooling2D"]),
        (lambda x: tf.reduce_max(x, [2, 1], keepdims=True), ["GlobalMaxPooling2D"]),
        (lambda x: tf.reduce_mean(x, -1, keepdims=True), ["Reduce"]),
        (lambda x: tf.reduce_sum(x, 3), ["Reduce"]),
        (lambda x: tf.image.resize(x, (16, 24)), ["UpSampling2D"]),
        (lambda x: tf.image.resize(x, tf.shape(x)[1:3] * 2, method="nearest"), ["UpSampling2D"]),
        (lambda x: tf.image.resize(x, (5, 7)), ["Resizing"]),
        (lambda x: tf.image.resize(x, (8, 8)), []),
        (lambda x: tf.compat.v1.image.resize_bilinear(x, (15, 15), align_corners=True), ["Resize"]),
        (lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, (16, 12)), ["Resize"]),
        (lambda x: tf.compat.v1.image.resize(x, tf.shape(x)[1:3] * 2), ["Resize"]),
        (lambda x: tf.nn.depth_to_space(x, 2), ["DepthToSpace"]),
        (lambda x: tf.nn.space_to_depth(x, 2), ["DepthToSpace"]),
        (lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), ["MaxPooling2D"]),
        (lambda x: tf.nn.avg_pool2d(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME"), ["AveragePooling2D"]),
        (lambda x: tf.nn.conv2d(x, KERNEL, 2, "SAME"), ["Conv2D"]),
        (lambda x: tf.nn.depthwise_conv2d(x, KERNEL[..., :1], [1, 2, 2, 1], "VALID"), ["DepthwiseConv2D"]),
        (lambda x: tf.nn.bias_add(x, CONSTANT), ["ChannelShift"]),
        (lambda x: tf.matmul(tf.reduce_mean(x, [1, 2]), KERNEL[0, 0]), ["GlobalAveragePooling2D", "Dense"]),
    ],
)
def test_an_operator_becomes_the_layer_that_means_the_same(function, expected):
    flat = lowered(function)
    assert sorted(kinds(flat)) == sorted(expected)
    assert all(layer.name.startswith(("mine_", "image")) for layer in flat.layers)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (tf.math.erf, "mine_erf"),
        (lambda x: x * (1 + tf.math.erf(x / 2.0)) * 0.5, "mine_erf"),  # no GELU, and no other either
        (lambda x: x * (1 + tf.math.erf(x / 1.4142135)), "mine_erf"),
        (lambda x: 0.5 * tf.nn.relu(x) * (1 + tf.math.erf(x / 1.4142135)), "mine_erf"),
        (lambda x: 0.5 * x * (2 + tf.math.erf(x / 1.4142135)), "mine_erf"),
        (lambda x: 1 / (x * x + 1.0), "mine_truediv"),
        (lambda x: x / (x * x + 1.0), "mine_truediv"),
        (lambda x: tf.nn.gelu(x, approximate=True), "mine_gelu"),
        (lambda x: tf.cumsum(x, axis=1), "mine_cumsum"),
        (lambda x: tf.transpose(x), "mine_transpose"),
        (lambda x: tf.reduce_mean(x), "mine_reduce_mean"),
        (lambda x: x[:1], "mine_getitem"),
        (lambda x: tf.reshape(x, [-1, 4]), "mine_reshape"),
        (lambda x: tf.image.resize(x, (16, 16), antialias=True), "mine_resize"),
        (lambda x: tf.image.resize(x, (16, 16), method="bicubic"), "mine_resize"),
        (lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, (15, 15), True), "mine_resize_nearest_neighbor"),
        (lambda x: tf.cast(x, tf.int32), "mine_cast"),
    ],
)
def test_an_operator_without_such_a_layer_stays_under_a_stable_name(function, name):
    for _ in range(2):
        flat = lowered(function)
        kept = [layer.name for layer in flat.layers if type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda")]
        assert kept == [name]


def test_names_follow_the_order_of_computation():
    flat = lowered(lambda x: tf.nn.relu(x + tf.nn.relu(x + x)))
    assert [layer.name for layer in flat.layers] == ["image", "mine_add", "mine_relu", "mine_add_2", "mine_relu_2"]


def test_tensors_that_would_broadcast_over_the_batch_are_refused():
    with pytest.raises(LoweringError, match="mine: an operator on tensors of rank 4 and 2 broadcasts over the batch"):
        lowered(lambda x: x * tf.reduce_mean(x, [1, 2]))


def test_a_slice_is_found_again_in_a_saved_model(tmp_path):
    flat = lowered(lambda x: tf.concat([x[..., 1:3] / 6.0, tf.clip_by_value(x, -1.0, 1.0) * CONSTANT], -1))
    flat.save(tmp_path / "flat.keras")
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    loaded = tf_keras.models.load_model(tmp_path / "flat.keras", compile=False)
    np.testing.assert_array_equal(loaded(noise), flat(noise))
