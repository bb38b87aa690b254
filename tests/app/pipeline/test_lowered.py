"""A lowered network is kept between the stages: equal to the model, and equal when it was saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.app.pipeline import lowered
from edgeship.core.config import DataConfig
from edgeship.core.errors import LoweringError, StorageError
from edgeship.data import load_test_split, preprocessing_of
from edgeship.data.examples import examples_of_images

DATA = DataConfig(image_size=8, test_images=40)
EXAMPLES = examples_of_images(load_test_split(DATA), preprocessing_of(DATA))
KERNEL = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def of(function):
    image = layers.Input((8, 8, 1))
    return tf_keras.Model(image, layers.Lambda(function, name="lambda")(image), name="net")


class Keeps(layers.Layer):
    """A composite of a layer, an operator with a constant of its own, and attention, which is a composite of Keras'."""

    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 4)
        self.act = layers.Dense(6, activation=tf_keras.layers.LeakyReLU(0.1))
        self.table = tf.constant(KERNEL[:6])

    def call(self, x):
        x = self.act(tf.reshape(x, (-1, 8, 8)))
        return tf.matmul(self.attention(x, x), self.table)


def composite():
    image = layers.Input((8, 8, 1))
    return tf_keras.Model(image, Keeps()(image), name="net")


@pytest.mark.parametrize("make", [
    lambda: of(lambda x: tf.gather(x, tf.constant([0, 2, 1], tf.int64), axis=1)),
    lambda: of(lambda x: tf.matmul(tf.squeeze(x, -1), KERNEL)),
    lambda: of(lambda x: tf.where(x > tf.constant(0.3), x, 0.5)),
    lambda: of(lambda x: tf.one_hot(tf.cast(x[:, :, 0, 0] * 3, "uint8"), 4, dtype=tf.float32)),
    lambda: of(lambda x: tf.math.top_k(x[:, :, 0, 0], k=3).values),
    lambda: of(lambda x: tf.einsum("bhwc,wd->bhdc", x, KERNEL)),
    lambda: of(lambda x: tf.einsum("bhwc,bvwc->bhv", x, x + 1.0)),
    lambda: of(lambda x: tf.split(x, [3, 5], axis=1)[1]),
    lambda: of(lambda x: tf.maximum(x, tf.constant(-np.inf))),
    lambda: of(lambda x: tf.pow(x + 1.0, np.float32(1.3))),
    composite,
])
def test_what_is_kept_answers_as_the_model(make, tmp_path):
    model = make()
    flat = lowered.lowered(model, EXAMPLES)
    lowered.save(flat, tmp_path / "kept.keras", EXAMPLES)
    kept = tf_keras.models.load_model(tmp_path / "kept.keras", compile=False, custom_objects={})
    batch = np.random.default_rng(1).uniform(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(batch, training=False), kept(batch, training=False))
    assert [layer.name for layer in kept.layers] == [layer.name for layer in flat.layers]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.keras"]
    assert lowered.as_json(flat) == lowered.as_json(lowered.lowered(model, EXAMPLES))


def test_a_constant_that_a_file_cannot_hold_is_refused_with_its_operator(tmp_path):
    flat = lowered.lowered(
        of(lambda x: tf.math.real(tf.pow(tf.cast(x, tf.complex64), tf.constant(1 + 1j, tf.complex64)))), EXAMPLES
    )
    with pytest.raises(LoweringError, match=r"net: the lowered network cannot be kept: .*lambda_pow \(tf\.math\.pow\)"):
        lowered.save(flat, tmp_path / "kept.keras", EXAMPLES)
    assert not list(tmp_path.iterdir())


def test_random_numbers_in_inference_are_refused_by_name():
    with pytest.raises(LoweringError, match="'net': the lowered network computes another"):
        lowered.lowered(of(lambda x: x + tf.random.normal(tf.shape(x))), EXAMPLES)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    flat = lowered.lowered(of(lambda x: x * 2.0), EXAMPLES)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"kept\.keras: the model could not be saved"):
        lowered.save(flat, tmp_path / "file" / "kept.keras", EXAMPLES)


class Sparse(tf_keras.regularizers.Regularizer):
    """Without get_config()."""

    def __call__(self, kernel):
        return tf.reduce_sum(tf.abs(kernel))


def test_regularizers_constraints_and_initializers_of_the_users_are_not_needed_again(tmp_path):
    regularizer = Sparse()
    image = layers.Input((8, 8, 1))
    x = layers.Conv2D(
        3, 3, kernel_regularizer=regularizer, activity_regularizer=regularizer, name="conv",
        kernel_initializer=lambda shape, dtype=None: tf.ones(shape), bias_constraint=lambda values: values,
        kernel_constraint=tf_keras.constraints.MaxNorm(2.0),
    )(image)
    x = layers.TimeDistributed(layers.Dense(4, kernel_regularizer=regularizer), name="rows")(x)
    model = tf_keras.Model(image, x, name="net")
    flat = lowered.lowered(model, EXAMPLES)
    lowered.save(flat, tmp_path / "kept.keras", EXAMPLES)
    assert model.get_layer("conv").kernel_regularizer is regularizer
    conv = tf_keras.models.load_model(tmp_path / "kept.keras", compile=False).get_layer("conv")
    assert conv.kernel_regularizer is None and conv.bias_constraint is None
    assert isinstance(conv.kernel_constraint, tf_keras.constraints.MaxNorm)


class Doubled(layers.Dense):
    """What Keras' Dense does, under another name."""


class Halved(layers.Layer):
    def call(self, x):
        return x * 0.5


def in_rows(inner):
    image = layers.Input((8, 8, 1))
    return tf_keras.Model(image, layers.TimeDistributed(inner, name="rows")(image), name="net")


@pytest.mark.parametrize("inner", [
    lambda: Doubled(3), Halved, lambda: layers.Lambda(lambda x: x * 0.5),
    lambda: tf_keras.Sequential([layers.Dense(4), Halved(), layers.Dense(3)]),
])
def test_a_layer_of_keras_that_holds_one_of_the_users_is_opened(inner, tmp_path):
    model = in_rows(inner())
    flat = lowered.lowered(model, EXAMPLES)
    lowered.save(flat, tmp_path / "kept.keras", EXAMPLES)
    assert not any(isinstance(layer, layers.TimeDistributed) for layer in flat.layers)
    assert len(model.weights) == len(flat.weights)


@tf_keras.utils.register_keras_serializable("of_a_test")
def wave(x):
    return tf.sin(x)


def test_a_function_of_the_users_that_cannot_be_opened_is_named(tmp_path):
    image = layers.Input((8, 8, 1))
    rows = layers.Reshape((8, 8))(image)
    model = tf_keras.Model(image, layers.LSTM(4, activation=wave, name="lstm")(rows), name="net")
    flat = lowered.lowered(model, EXAMPLES)
    with pytest.raises(LoweringError, match=r"net: .* cannot be kept: .* holds of_a_test>wave, which only"):
        lowered.save(flat, tmp_path / "kept.keras", EXAMPLES)
