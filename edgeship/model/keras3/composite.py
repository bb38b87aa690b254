"""A layer of Keras 3 that runs its own `call()`, as a layer of Keras 2: on the layers and variables in its places."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from edgeship.core.errors import EdgeshipError, LoweringError, in_one_line
from edgeship.model.keras2 import is_tensor, raised_as_it_is

Scope = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, eq=False)
class Original:
    """The layer of Keras 3, kept where Keras 2 does not look for layers, and the scope that its code runs in."""

    layer: Any
    scope: Scope


class Composite(tf_keras.layers.Layer):
    """A layer of Keras 2 that runs the `call()` of one of Keras 3.

    Args:
        original: that layer.
        parts: the layers of Keras 2 in the places of those that it holds.
    """

    def __init__(self, original: Original, parts: list[Any]) -> None:
        super().__init__(name=original.layer.name, dtype="float32", autocast=bool(original.layer.autocast))
        self.original, self.parts = original, parts

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the original's `call()` computes."""
        layer = self.original.layer
        with self.original.scope() as scope:
            try:
                outputs = layer.call(*args, **kwargs)
            except (EdgeshipError, tf.errors.OpError):
                raise
            # Code of the user's may raise anything.
            except Exception as error:
                raise raised_as_it_is(LoweringError(
                    f"{layer.name} ({type(layer).__name__}): its call() could not be run on tensors of TensorFlow "
                    f"({in_one_line(error)}); use layers of Keras, keras.ops or tf functions in it"
                )) from error
        for loss in scope.losses:
            if not is_tensor(loss):
                self.add_loss(loss)
        return outputs


def composite_class(kind: type) -> type[Composite]:
    """Return a class with the name and the `call()` arguments of a class of Keras 3, for instances of that class."""
    signature = inspect.signature(kind.call)  # type: ignore[attr-defined]

    def call(self: Composite, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return type(kind.__name__, (Composite,), {
        "call": tf.autograph.experimental.do_not_convert(call), "__module__": kind.__module__, "__doc__": kind.__doc__,
    })
