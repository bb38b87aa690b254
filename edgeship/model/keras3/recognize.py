"""Which Keras a model, a layer or this process is of; nothing of Keras 3 is imported to find out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tf_keras

from edgeship.core.errors import ModelError, in_one_line


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


def _inherits(value: Any, name: str) -> bool:
    keras = sys.modules.get("keras")
    kind = getattr(keras, name, None)
    return isinstance(kind, type) and isinstance(value, kind) and kind.__module__.startswith("keras.src.")
