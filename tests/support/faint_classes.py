"""A classifier of many classes that is right and sure of nothing: each example is one class's own direction."""

from __future__ import annotations

import numpy as np
import tf_keras
from tf_keras import layers

FEATURES = 48


def faint_classes(classes: int, *, largest_logit: float) -> tf_keras.Model:
    """Return a network whose logits are `largest_logit` times the cosines between an example and all directions."""
    model = tf_keras.Sequential(
        [layers.Input((FEATURES,), name="features"), layers.Dense(classes, activation="softmax", name="classes")],
        name="faint",
    )
    model.layers[-1].set_weights([largest_logit * directions(classes).T, np.zeros(classes, np.float32)])
    return model


def directions(classes: int) -> np.ndarray:
    """Return one example of each class: float32 (classes, FEATURES), of length 1."""
    vectors = np.random.default_rng(0).normal(size=(classes, FEATURES))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def model_of_many() -> tf_keras.Model:
    """Return 1,000 classes whose largest probability is 0.0016."""
    return faint_classes(1000, largest_logit=0.5)


def model_of_two() -> tf_keras.Model:
    """Return two classes that are told apart for sure."""
    return faint_classes(2, largest_logit=6.0)


def model_of_values() -> tf_keras.Model:
    """Return a network without a softmax."""
    model = faint_classes(4, largest_logit=1.0)
    model.layers[-1].activation = tf_keras.activations.linear
    return model


def examples_of_many() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each class's example, and its number."""
    return {part: (directions(1000), np.arange(1000)) for part in ("calibration", "test")}


def examples_of_two() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return both examples many times, a little apart."""
    nearly = np.repeat(directions(2), 100, axis=0)
    nearly = nearly + np.random.default_rng(1).normal(0, 0.01, nearly.shape).astype(np.float32)
    return {part: (nearly, np.repeat(np.arange(2), 100)) for part in ("calibration", "test")}


def examples_of_values() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return examples of any kind."""
    return {part: (directions(4), np.arange(4)) for part in ("calibration", "test")}
