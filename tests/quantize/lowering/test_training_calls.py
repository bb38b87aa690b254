"""What is called with training=True computes something else in inference: refused by the layer's name, or harmless."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import noise_for, randomize

SHAPE = (8, 8, 3)


class Normed(layers.Layer):
    """A composite whose batch norm always takes the batch's statistics."""

    def __init__(self, *, by_position, **kwargs):
        super().__init__(**kwargs)
        self.by_position = by_position
        self.norm = layers.BatchNormalization(name="inner_norm")

    def call(self, x):
        return self.norm(x, True) if self.by_position else self.norm(x, training=True)


class BatchOnly(layers.BatchNormalization):
    """A batch norm that cannot do otherwise."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


class Defaulted(layers.Layer):
    """A `training` that is True unless somebody says otherwise; inference does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.drop = layers.BatchNormalization(), layers.Dropout(0.5)

    def call(self, x, training=True):
        return self.drop(self.norm(x, training=training), training=training)


def model_of(*parts):
    x = image = layers.Input(SHAPE, name="image")
    for part in parts:
        x = part(x)
    return randomize(tf_keras.Model(image, x, name="model"))


def called(layer, **kwargs):
    return lambda x: layer(x, **kwargs)


def nested(*parts):
    return tf_keras.Sequential([layers.Input(SHAPE), *parts], name="nested")


@pytest.mark.parametrize(("part", "named"), [
    (called(layers.BatchNormalization(name="norm"), training=True), "norm (BatchNormalization)"),
    (called(layers.BatchNormalization(name="norm"), training=1), "norm (BatchNormalization)"),
    (Normed(by_position=False, name="block"), "inner_norm (BatchNormalization)"),
    (Normed(by_position=True, name="block"), "inner_norm (BatchNormalization)"),
    (BatchOnly(name="own"), "own (BatchNormalization)"),
    (called(nested(layers.BatchNormalization(name="norm")), training=True), "norm (BatchNormalization)"),
    (layers.Lambda(lambda x: layers.Dropout(0.5, name="drop")(x, training=True)), "drop (Dropout)"),
    (called(layers.GaussianNoise(0.1, name="noise"), training=True), "noise (GaussianNoise)"),
    (called(layers.SpatialDropout2D(0.1, name="maps"), training=True), "maps (SpatialDropout2D)"),
    (called(layers.RandomFlip(name="flip"), training=True), "flip (RandomFlip)"),
], ids=range(10))
def test_what_computes_otherwise_in_training_is_refused_by_name(part, named):
    with pytest.raises(LoweringError) as error:
        lower(model_of(part))
    assert str(error.value).startswith(f"{named}: it is called with training=True: ")
    assert "Call it without training=True" in str(error.value)


@pytest.mark.parametrize("part", [
    called(layers.BatchNormalization(trainable=False), training=True),
    called(layers.BatchNormalization(), training=False),
    called(layers.Dropout(0.0), training=True),
    called(nested(layers.Conv2D(3, 1), layers.LayerNormalization()), training=True),
    Defaulted(),
], ids=["frozen", "false", "rate 0", "nothing random", "true by default"])
def test_what_computes_the_same_is_lowered(part):
    model = model_of(part)
    noise = noise_for(model)
    np.testing.assert_array_equal(lower(model)(noise, training=False), model.predict(noise, verbose=0))


def test_a_learning_phase_that_is_left_set_changes_nothing():
    tf_keras.backend.set_learning_phase(1)
    try:
        model = model_of(layers.Conv2D(4, 3), layers.BatchNormalization(), Defaulted())
        flat = lower(model)
    finally:
        tf_keras.backend.clear_session()
    noise = noise_for(model)
    np.testing.assert_array_equal(flat(noise, training=False), model.predict(noise, verbose=0))
