from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.errors import LoweringError
from edgeship.model.resnet import build_resnet
from quantize.lower import is_composite, lower
from quantize.operators import is_operator


class Concatenating(layers.Layer):
    """A composite with a layer used twice, a nested composite and tf operators."""

    def build(self, shape):
        self.conv = layers.Conv2D(shape[-1], 3, padding="same", name=f"{self.name}_conv")
        self.conv.build(shape)
        self.dropout = layers.Dropout(0.5, seed=1, name=f"{self.name}_dropout")
        super().build(shape)

    def call(self, x, training=None):
        twice = self.conv(tf.nn.relu6(self.conv(x)))
        return tf.concat([tf.nn.relu(x + twice), self.dropout(x, training=training)], axis=-1)


def model_of(layer, shape=(8, 8, 4)):
    image = layers.Input(shape, name="image")
    return tf_keras.Model(image, layer(image), name="model")


@pytest.mark.parametrize("se_ratio", [0, 4])
def test_the_lowered_network_is_the_same_to_the_last_bit(se_ratio):
    model = build_resnet(input_shape=(16, 16, 1), classes=10, stage_sizes=(2, 2), width=8, se_ratio=se_ratio)
    flat = lower(model)
    noise = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    assert not any(is_composite(layer) or is_operator(layer) for layer in flat.layers)
    assert len(flat.weights) == len(model.weights)
    np.testing.assert_array_equal(flat(noise, training=False), model(noise, training=False))
    np.testing.assert_array_equal(flat(noise, training=True), model(noise, training=True))


def test_a_users_own_composite_is_lowered_and_its_shared_layer_stays_one():
    model = model_of(Concatenating(name="mine"))
    flat = lower(model)
    noise = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype(np.float32)
    np.testing.assert_array_equal(flat(noise, training=False), model(noise, training=False))
    assert sum(isinstance(layer, layers.Conv2D) for layer in flat.layers) == 1
    assert np.any(flat(noise, training=True)[..., 4:] != noise)  # dropout still drops in training


def test_two_builds_in_one_process_have_the_same_names():
    def names():
        return [layer.name for layer in lower(model_of(Concatenating(name="mine"))).layers]

    assert names() == names()


class Own(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight("scale", shape=(1, 1, 1, shape[-1]))
        super().build(shape)


class LosesItsVariable(Own):
    def call(self, x):
        return x * self.scale


class Unknown(layers.Layer):
    def call(self, x):
        return tf.math.erf(x)


class BranchesOnValues(layers.Layer):
    def call(self, x):
        return x if tf.reduce_sum(x) > 0 else -x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LosesItsVariable(name="mine"), "mine: the variable .* belongs to no standard layer"),
        (Unknown(name="mine"), "mine: the operator tf.math.erf has no standard layer"),
        (BranchesOnValues(name="mine"), r"mine \(BranchesOnValues\): its call\(\) could not be traced"),
    ],
)
def test_what_cannot_be_lowered_is_refused_by_name(layer, message):
    with pytest.raises(LoweringError, match=message):
        lower(model_of(layer))
