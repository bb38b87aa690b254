from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.simplify import simplify
from edgeship.quantize.simplifying.takes import runs_of
from tests.support.networks import noise_for

SLICE, TAKE, JOIN = flat_layers.StridedSlice, flat_layers.Take, layers.Concatenate


@pytest.mark.parametrize(("positions", "runs"), [
    ([0, 1, 2], 1), ([3, 4, 5, 0, 1, 2], 2), ([0, 1, 2, 0, 1, 2], 2), ([0, 2, 4, 1, 3, 5], 2), ([5, 3, 1], 1), ([7], 1),
    ([2, 1, 0, 0, 1, 2], 2), ([0, 0, 0], 3), ([4, 4, 4, 3, 2], 3), ([9, 0, 1], 2), ([0, 9], 1), ([1, 0], 1),
])
def test_slices_take_the_positions_in_their_order(positions, runs):
    found = runs_of(positions)
    assert len(found) == runs
    assert [place for run in found for place in range(10)[slice(*run)]] == positions


def test_slices_of_mixed_positions_are_right_however_many_they_are():
    for seed in range(20):
        positions = np.random.default_rng(seed).integers(0, 8, 12).tolist()
        assert [place for run in runs_of(positions) for place in range(8)[slice(*run)]] == positions


@pytest.mark.parametrize(("layer", "kinds"), [
    (TAKE([4, 5, 0, 1, 2, 3], 1), [SLICE, SLICE, JOIN]), (TAKE([*range(6)] * 3, 1), [JOIN]),
    (TAKE([5, 4, 3], 1), [SLICE]), (TAKE([*range(6)], 1), []), (TAKE([0, 0, 1, 1, 2, 2, 3, 3], 2), [TAKE]),
    (TAKE([1, 1, 1, 0, 0, 0], 3), [TAKE]), (TAKE([0, 1, 2, 2, 3, 4, 0, 1, 2], 2), [SLICE, SLICE, JOIN]),
])
def test_few_slices_are_joined_and_more_are_one_operation(layer, kinds):
    image = layers.Input((6, 5, 2), name="image")
    model = tf_keras.Model(image, layers.Activation("linear", name="out")(layer(image)))
    simple, noise = simplify(model), noise_for(model)
    assert [type(item) for item in simple.layers[1:]] == kinds
    np.testing.assert_array_equal(simple(noise), model(noise))


@pytest.mark.parametrize(("times", "kinds"), [(1, []), (3, [JOIN]), (8, [TAKE])])
def test_a_repeated_vector_is_a_sequence_of_one_step_taken_several_times(times, kinds):
    vector = layers.Input((5,), name="vector")
    model = tf_keras.Model(vector, layers.RepeatVector(times, name="repeat")(vector))
    simple, noise = simplify(model), noise_for(model)
    assert [type(item) for item in simple.layers[1:]] == [layers.Reshape, *kinds]
    np.testing.assert_array_equal(simple(noise), model(noise))
