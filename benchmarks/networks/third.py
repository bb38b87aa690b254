"""A family as a model of Keras 3: whether it is lowered to the same network, and how far its answers are away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from benchmarks.networks import families
from benchmarks.networks.images import inputs_of
from edgeship.quantize.lowering.lower import lower


@dataclass(frozen=True, kw_only=True)
class Both:
    """One family in both Keras, each lowered, with random weights of its own."""

    flat2: tf_keras.Model
    flat3: tf_keras.Model
    weights: int  # of the model of Keras 3
    difference: float  # the largest between the outputs of the model of Keras 3 and its lowered network, of the largest


def in_both(name: str) -> Both:
    """Build a family in Keras 2 and in Keras 3, and lower both."""
    for each in (keras, tf_keras):
        each.utils.clear_session() if each is keras else each.backend.clear_session()
        each.utils.set_random_seed(0)
    second, third = families.FAMILIES[name](), families.families_of(keras)[name]()
    flat3 = lower(third)
    return Both(
        flat2=lower(second), flat3=flat3, weights=len(third.weights), difference=_difference(third, flat3)
    )


def same_layers(one: tf_keras.Model, other: tf_keras.Model, *, names: bool = True) -> bool:
    """Return whether two networks have layers of the same names, classes and settings in the same order.

    The two Keras make up other names for inputs that have none.

    Args:
        names: whether names count.
    """
    return _layers(one, names=names) == _layers(other, names=names)


def _layers(flat: tf_keras.Model, *, names: bool) -> list[Any]:
    named = [names and not isinstance(layer, tf_keras.layers.InputLayer) for layer in flat.layers]
    return [
        (layer.name if is_named else "", type(layer), _settings(layer))
        for layer, is_named in zip(flat.layers, named, strict=True)
    ]


def _settings(layer: Any) -> dict[str, Any]:
    """Without those that only training needs."""
    return {
        key: value for key, value in layer.get_config().items()
        if not key.endswith(("_initializer", "_regularizer", "_constraint")) and key not in ("name", "seed")
    }


def _difference(third: Any, flat: tf_keras.Model) -> float:
    images = inputs_of(flat, 2, seed=4)
    largest, away = 0.0, 0.0
    for one, other in zip(
        tf.nest.flatten(third(images, training=False)), tf.nest.flatten(flat(images, training=False)), strict=True
    ):
        largest = max(largest, float(np.max(np.abs(one))))
        away = max(away, float(np.max(np.abs(np.asarray(one) - np.asarray(other)))))
    return away / largest
