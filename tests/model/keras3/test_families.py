"""Every family of models in Keras 3: lowered to the network that the same description in Keras 2 is lowered to."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from benchmarks.networks import families
from benchmarks.networks.images import inputs_of
from benchmarks.networks.third import in_both, same_layers
from edgeship.model.keras3.translate import TOLERANCE


@pytest.mark.parametrize("name", families.SMALL)
def test_a_family_of_keras_3_is_lowered_to_the_network_of_keras_2(name):
    both = in_both(name)
    assert same_layers(both.flat3, both.flat2)
    assert both.difference <= TOLERANCE
    both.flat3.set_weights(both.flat2.get_weights())
    images = inputs_of(both.flat2, 2, seed=4)
    for one, other in zip(*(tf.nest.flatten(flat(images)) for flat in (both.flat2, both.flat3)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_two_are_models_of_two_keras():
    name = next(iter(families.SMALL))
    assert isinstance(families.SMALL[name](), tf_keras.Model)
    assert isinstance(families.families_of(keras)[name](), keras.Model)
