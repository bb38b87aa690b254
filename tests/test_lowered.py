"""A lowered network is kept between the stages: equal to the model, and equal when it was saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship import lowered
from edgeship.config import DataConfig
from edgeship.data import load_test_split, preprocessing_of
from edgeship.errors import LoweringError, StorageError

DATA = DataConfig(image_size=8, test_images=40)
IMAGES, SPEC = load_test_split(DATA), preprocessing_of(DATA)
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
    flat = lowered.lowered(model, IMAGES, spec=SPEC)
    lowered.save(flat, tmp_path / "kept.keras", IMAGES, spec=SPEC)
    kept = tf_keras.models.load_model(tmp_path / "kept.keras", compile=False, custom_objects={})
    batch = np.random.default_rng(1).uniform(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(batch, training=False), kept(batch, training=False))
    assert [layer.name for layer in kept.layers] == [layer.name for layer in flat.layers]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.keras"]
    assert lowered.as_json(flat) == lowered.as_json(lowered.lowered(model, IMAGES, spec=SPEC))


def test_a_constant_that_a_file_cannot_hold_is_refused_with_its_operator(tmp_path):
    flat = lowered.lowered(
        of(lambda x: tf.math.real(tf.pow(tf.cast(x, tf.complex64), tf.constant(1 + 1j, tf.complex64)))), IMAGES,
        spec=SPEC,
    )
    with pytest.raises(LoweringError, match=r"net: the lowered network cannot be kept: .*lambda_pow \(tf\.math\.pow\)"):
        lowered.save(flat, tmp_path / "kept.keras", IMAGES, spec=SPEC)
    assert not list(tmp_path.iterdir())


def test_random_numbers_in_inference_are_refused_by_name():
    with pytest.raises(LoweringError, match="'net': the lowered network computes another"):
        lowered.lowered(of(lambda x: x + tf.random.normal(tf.shape(x))), IMAGES, spec=SPEC)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    flat = lowered.lowered(of(lambda x: x * 2.0), IMAGES, spec=SPEC)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"kept\.keras: the model could not be saved"):
        lowered.save(flat, tmp_path / "file" / "kept.keras", IMAGES, spec=SPEC)
