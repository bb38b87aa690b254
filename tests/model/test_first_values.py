from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tf_keras

from edgeship.model.first_values import FirstValues, first_values, lost_in_rounding, squeezed
from edgeship.quantize.lowering.lower import lower

layers = tf_keras.layers
UNIT = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)


def seen(before: Callable[..., object], batch: np.ndarray = UNIT) -> FirstValues | None:
    """What the convolution sees behind these layers, in the form of the stages: lowered."""
    inputs = tf_keras.Input((8, 8, 3))
    tensor = layers.Conv2D(4, 3, name="stem")(before(inputs))
    tensor = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(tensor))
    return first_values(lower(tf_keras.Model(inputs, tensor)), batch)


@pytest.mark.parametrize("before", [
    layers.Rescaling(1 / 255),
    layers.Rescaling(1 / 127.5, offset=-1),
    layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3410.0, 3262.0, 3290.0]),
    lambda x: x / 127.5 - 1,
    lambda x: layers.Rescaling(1 / 255)(layers.ZeroPadding2D(1)(x)) - 0.0,
    lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x)),
    lambda x: tf_keras.Sequential([layers.Resizing(6, 6), layers.Rescaling(1 / 255)])(x),
])
def test_pixels_of_0_to_1_where_those_of_0_to_255_are_wanted(before: Callable[..., object]) -> None:
    found = seen(before)
    assert found is not None and found.layer == "stem" and found.are_squeezed
    right = seen(before, 255 * UNIT)
    assert right is not None and not right.are_squeezed


@pytest.mark.parametrize("before", [
    layers.Rescaling(2.0, offset=-1),
    layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.0524, 0.0502, 0.0506]),
    layers.ZeroPadding2D(1),
])
def test_what_is_scaled_as_it_should_be(before: Callable[..., object]) -> None:
    found = seen(before)
    assert found is not None and not found.are_squeezed


@pytest.mark.parametrize("before", [
    lambda x: x,
    layers.BatchNormalization(),  # trained: whatever it does to its input, it learned on it
    lambda x: layers.Concatenate()([x, layers.Rescaling(1 / 255)(x)]),
])
def test_nothing_is_said_where_the_first_layer_with_weights_takes_the_input_itself(
    before: Callable[..., object]
) -> None:
    assert seen(before) is None


def test_a_layer_that_is_frozen_was_trained_as_well() -> None:
    inputs = tf_keras.Input((8, 8, 3))
    tensor = layers.Conv2D(4, 3, name="stem", trainable=False)(layers.Rescaling(1 / 255)(inputs))
    flat = lower(tf_keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(tensor))))
    found = first_values(flat, UNIT)
    assert found is not None and found.layer == "stem"


def test_a_network_without_weights() -> None:
    inputs = tf_keras.Input((8, 8, 3))
    assert first_values(tf_keras.Model(inputs, layers.Rescaling(1 / 255)(inputs)), UNIT) is None


def test_values_are_those_of_the_layer_s_input() -> None:
    assert seen(layers.Rescaling(1 / 127.5, offset=-1)) == FirstValues(
        layer="stem", low=-1.0, high=pytest.approx(1 / 127.5 - 1), span=pytest.approx(1 / 127.5, rel=0.02)
    )


def test_the_words_of_the_warning() -> None:
    inputs = tf_keras.Input((8, 8, 3))
    tensor = layers.Conv2D(4, 3, name="stem")(layers.Rescaling(1 / 255)(inputs))
    flat = lower(tf_keras.Model(inputs, layers.Dense(3)(layers.Flatten()(tensor))))
    assert squeezed(flat, UNIT) == "inputs from 0 to 1 reach stem as 0 to 0.003922, nearly all alike"
    assert squeezed(flat, 255 * UNIT) is None


# --- what one grid loses ---------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
EVEN = RANDOM.normal(size=(64, 4)).astype("float32")


def table(examples: np.ndarray, *, normalized: bool) -> tf_keras.Model:
    """A dense layer on columns, behind a Normalization that makes them alike or by itself."""
    inputs = tf_keras.Input((examples.shape[-1],))
    x = inputs
    if normalized:
        x = layers.Normalization(mean=examples.mean(0), variance=examples.var(0), name="alike")(x)
    return lower(tf_keras.Model(inputs, layers.Dense(2, name="values")(x)))


@pytest.mark.parametrize(("factors", "offset", "lost"), [
    ((1, 1, 1, 1), 0, None), ((1, 10, 20, 1), 0, None), ((1, 1000, 1, 1), 0, "3 of 4 columns"),
    ((1, 1, 1, 1), 300, "4 of 4 columns"), ((1, 1, 1, 1), 20, None),
])
def test_columns_that_a_normalization_makes_alike_share_one_grid_before_it(
    factors: tuple[float, ...], offset: float, lost: str | None
) -> None:
    examples = (EVEN * np.float32(factors) + np.float32(offset)).astype("float32")
    found = lost_in_rounding(table(examples, normalized=True), examples)
    assert (found is None) if lost is None else (found or "").startswith(lost)
    assert found is None or "what alike does" in found


def test_inputs_far_from_zero_and_small_columns_without_a_normalization() -> None:
    far, small = EVEN + np.float32(1000), EVEN * np.float32([1, 1, 1, 1e-4])
    assert "nearly all one code of an int8 grid" in (lost_in_rounding(table(far, normalized=False), far) or "")
    assert lost_in_rounding(table(small, normalized=False), small) is None  # they count as little in float
    assert lost_in_rounding(table(EVEN, normalized=False), np.zeros_like(EVEN)) is None
