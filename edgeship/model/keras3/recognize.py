"""Which Keras a model, a layer or this process is of; nothing of Keras 3 is imported to find out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tf_keras

from edgeship.core.errors import LoweringError, ModelError, in_one_line
from edgeship.model.keras2 import arguments_of, calls_of


def is_keras3_model(value: Any) -> bool:
    """Return whether a value is a model of Keras 3."""
    return _inherits(value, "Model")


def is_keras3_layer(value: Any) -> bool:
    """Return whether a value is a layer (or a model) of Keras 3."""
    return _inherits(value, "Layer")


def require_tensorflow_backend() -> None:
    """Raise ModelError where Keras 3 is missing, or computes with another backend than TensorFlow in this process."""
    try:
        import keras
    # Another backend's package may be missing, or raise anything while it is imported.
    except Exception as error:
        raise ModelError(
            f"Keras 3 could not be imported with the backend {os.environ.get('KERAS_BACKEND', 'tensorflow')!r} "
            f"({in_one_line(error)}); set the environment variable KERAS_BACKEND=tensorflow"
        ) from error
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ModelError(
            f"Keras 3 computes with the backend {backend!r} in this process, expected 'tensorflow'; set the "
            "environment variable KERAS_BACKEND=tensorflow (a .keras file of Keras' own layers is the same for all)"
        )


def require_one_keras(layers: Iterable[Any]) -> None:
    """Raise LoweringError where a layer of one Keras holds a layer of the other: each would train its own weights."""
    if "keras" not in sys.modules:
        return
    for layer in layers:
        _require_own_variables(layer)
        of_keras3 = is_keras3_layer(layer)
        is_other = _is_keras2_layer if of_keras3 else is_keras3_layer
        held = next((item for item in _values_in(vars(layer)) if is_other(item)), None)
        if held is not None:
            names = ("Keras 3 (keras)", "Keras 2 (tf_keras)")
            own, other = names if of_keras3 else names[::-1]
            raise LoweringError(
                f"{layer.name} ({type(layer).__name__}): a layer of {own} that holds {held.name!r}, one of {other}; "
                "build the whole model with one of the two"
            )


def _require_own_variables(layer: Any) -> None:
    """Raise LoweringError for an operator in a graph of Keras 2 that reads a variable of Keras 3."""
    if "OpLambda" not in type(layer).__name__:
        return
    values = (value for node in calls_of(layer) for value in _values_in(list(arguments_of(node))))
    variable = next((value for value in values if _inherits(value, "Variable")), None)
    if variable is not None:
        raise LoweringError(
            f"{variable.path}: a variable of Keras 3 (keras) in a model of Keras 2 (tf_keras), where it would not "
            "train: a layer of the one was called on an Input of the other; build the whole model with one of the two"
        )


@contextmanager
def fresh_keras() -> Iterator[None]:
    """Let code of the user's build a model in both Keras as in a process of its own, and leave nothing set behind.

    Names that Keras makes up ("conv2d_3") must not depend on what else this process has built, and a precision policy
    that is left set would reach layers of ours.
    """
    tf_keras.backend.reset_uids()
    policy = tf_keras.mixed_precision.global_policy()
    keras = sys.modules.get("keras")
    other = None
    if keras is not None and hasattr(keras, "dtype_policies"):
        from edgeship.model.keras3.inside import reset_names

        reset_names()
        other = keras.config.dtype_policy()
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
        keras = sys.modules.get("keras")
        if keras is not None and hasattr(keras, "dtype_policies"):
            keras.config.set_dtype_policy(other or "float32")


def _values_in(value: Any, depth: int = 3) -> Iterator[Any]:
    """Yield what a value holds, in lists and dictionaries up to this depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple | set):
        yield value
    elif depth:
        for item in value:
            yield from _values_in(item, depth - 1)


def _is_keras2_layer(value: Any) -> bool:
    return isinstance(value, tf_keras.layers.Layer)


def _inherits(value: Any, name: str) -> bool:
    keras = sys.modules.get("keras")
    kind = getattr(keras, name, None)
    return isinstance(kind, type) and isinstance(value, kind) and kind.__module__.startswith("keras.src.")
