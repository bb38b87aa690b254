"""Activations, regularizers and constraints of Keras 3 -> what Keras 2 takes in their places."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tf_keras

# Activations that mean the same in both: name in Keras 3 -> name in Keras 2. `hard_sigmoid`, for one, does not.
ACTIVATIONS = {
    **{name: name for name in (
        "elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign",
        "tanh",
    )},
    "silu": "swish",
}
# Keras 3 has the classes of Keras 2, with the same settings.
REGULARIZERS = ("L1", "L2", "L1L2", "OrthogonalRegularizer")
CONSTRAINTS = ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")

Scope = Callable[[], AbstractContextManager[Any]]


def activation_of(function: Any, *, scope: Scope, twin_of: Callable[[Any], Any]) -> Any:
    """Return what Keras 2 takes for an activation.

    Args:
        function: a function of Keras', one of the user's, a layer, or None.
        scope: what a user's function is run in.
        twin_of: a layer of Keras 3 -> the layer in its place.
    """
    if function is None:
        return None
    if isinstance(function, keras.Layer):
        return twin_of(function)
    for name, other in ACTIVATIONS.items():
        if function is getattr(keras.activations, name):
            return getattr(tf_keras.activations, other)
    return _run_in(function, scope)


def regularizer_of(regularizer: Any, *, scope: Scope) -> Any:
    """Return what Keras 2 takes for a regularizer, Keras' own or the user's."""
    return _own_or_function(regularizer, keras.regularizers, tf_keras.regularizers, REGULARIZERS, scope)


def constraint_of(constraint: Any, *, scope: Scope) -> Any:
    """Return what Keras 2 takes for a constraint, Keras' own or the user's."""
    return _own_or_function(constraint, keras.constraints, tf_keras.constraints, CONSTRAINTS, scope)


def _own_or_function(item: Any, theirs: Any, ours: Any, names: tuple[str, ...], scope: Scope) -> Any:
    if item is None:
        return None
    name = type(item).__name__
    if name in names and type(item) is getattr(theirs, name):
        return getattr(ours, name).from_config(item.get_config())
    return _run_in(item, scope)


def _run_in(function: Any, scope: Scope) -> Any:
    name = getattr(function, "__name__", type(function).__name__)

    @functools.wraps(function, assigned=("__doc__",), updated=())
    def run(x: Any) -> Any:
        with scope():
            return function(x)

    run.__name__ = name
    return run
