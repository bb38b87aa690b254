from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.app.pipeline import lowered
from edgeship.app.pipeline.preflight import LARGEST_TRIAL_LAYERS, Preflight, _shaken
from edgeship.core.config import Config, DataConfig, QuantizeConfig
from edgeship.core.errors import ModelError
from edgeship.data import load_splits, preprocessing_of
from edgeship.data.examples import examples_of_images

CONFIG = Config(
    data=DataConfig(image_size=8, train_images=32, calibration_images=16, test_images=40),
    quantize=QuantizeConfig(schemes=("int8-ptq",)),
)
SPLITS, SPEC = load_splits(CONFIG.data), preprocessing_of(CONFIG.data)


def network(*middle, activation="softmax"):
    return tf_keras.Sequential([
        layers.Input((8, 8, 1)), *middle, layers.Flatten(), layers.Dense(10, activation=activation),
    ], name="net")


def checked(model, *, tries_export=True):
    preflight = Preflight(config=CONFIG, splits=SPLITS, spec=SPEC, tries_export=tries_export)
    return preflight.check(model, lowered.lowered(model, examples_of_images(SPLITS.test, SPEC)))


def test_a_network_whose_export_takes_long_is_checked_without_it():
    said = checked(network(*(layers.ReLU() for _ in range(LARGEST_TRIAL_LAYERS))))
    assert "integer grids planned" in said and "no trial export of a network this large" in said
    assert "trial" not in checked(network(), tries_export=False)


def test_an_untrained_network_may_overflow_but_not_end_in_logits():
    wild = network(*(layers.Rescaling(1e30) for _ in range(2)), layers.Rescaling(1.0, offset=-1.0))
    assert not np.isfinite(wild(np.ones((1, 8, 8, 1), np.float32))).all()
    assert "checked before training: net" in checked(wild, tries_export=False)
    with pytest.raises(ModelError, match="are these logits"):
        checked(network(activation=None))


def test_the_network_that_is_tried_has_nothing_exactly_as_it_was_initialized():
    model = network(
        layers.Conv2D(3, 3), layers.BatchNormalization(gamma_initializer="zeros"),
        layers.BatchNormalization(gamma_initializer="zeros", trainable=False),
    )
    before = [weight.numpy() for weight in model.weights]
    shaken = _shaken(lowered.lowered(model, examples_of_images(SPLITS.test, SPEC)), seed=1)
    for layer in shaken.layers[1:3]:
        assert all(len(np.unique(values)) == values.size for values in layer.get_weights())
    np.testing.assert_array_equal(shaken.layers[3].gamma, np.zeros(3))  # frozen: so it stays when it is trained
    for weight, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, values)
