"""What the code of a layer of Keras 3 meets while its translation runs it: other layers, other variables.

`in_place(...)` lasts for one call of such code. Within it, and in its thread alone, a call of a layer of Keras 3 goes
to the layer of Keras 2 in its place, a variable of Keras 3 has the value of the variable in its place, and the
functions of `keras.ops` take the symbolic tensors of Keras 2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from tf_keras.src.engine.keras_tensor import KerasTensor
from tf_keras.src.layers.core.tf_op_layer import KerasOpDispatcher

from edgeship.model.keras2 import is_tensor
from edgeship.model.keras3.inside import changed, is_variable, stored
from edgeship.model.keras3.operations import for_symbolic_tensors

Answer = Callable[[Any], Callable[..., Any]]


class Variables(keras.StatelessScope):
    """A scope in which variables of Keras 3 are read from, and assigned to, variables of TensorFlow in their places.

    Args:
        places: id of a variable of Keras 3 -> the variable in its place. Others keep their own values.
    """

    def __init__(self, places: dict[int, Any]) -> None:
        super().__init__(collect_losses=True, initialize_variables=False)
        self._places = places

    def get_current_value(self, variable: Any) -> Any:
        return self._places.get(id(variable))

    def add_update(self, update: tuple[Any, Any]) -> None:
        variable, value = update
        place = self._places.get(id(variable), stored(variable))
        place.assign(tf.cast(value, place.dtype))


@contextmanager
def in_place(answer: Answer, places: dict[int, Any]) -> Iterator[Variables]:
    """Let code of Keras 3 run on the layers and variables in the places of its own.

    Args:
        answer: a layer of Keras 3 -> what is called in its place.
        places: as for `Variables`.

    Yields:
        The scope, whose `losses` are those that the code adds.
    """
    before = getattr(_here, "answer", None)
    _patches.enter()
    _here.answer = answer
    try:
        with Variables(places) as scope:
            yield scope
    finally:
        _here.answer = before
        _patches.leave()


class _Patches:
    """Changes to classes of both Keras, there while any thread needs them; each does nothing in other threads."""

    def __init__(self) -> None:
        self._lock, self._users, self._stack = threading.Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            changes = [
                (keras.Layer, "__call__", _call), (KerasOpDispatcher, "handle", _handle),
                (KerasTensor, "ndim", property(_rank)), *for_symbolic_tensors(),
            ]
            for owner, name, value in changes:
                self._stack.enter_context(changed(owner, name, value))

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._stack.close()


_here = threading.local()
_patches = _Patches()
_own_call, _own_handle = keras.Layer.__call__, KerasOpDispatcher.handle


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    answer = getattr(_here, "answer", None)
    return _own_call(layer, *args, **kwargs) if answer is None else answer(layer)(*args, **kwargs)


def _handle(dispatcher: Any, operator: Any, args: Any, kwargs: Any) -> Any:
    """Give an operator on symbolic tensors the variables of TensorFlow, of which Keras 2 knows more than of others."""
    flat = tf.nest.flatten([args, kwargs])
    if any(map(is_tensor, flat)) and any(map(is_variable, flat)):
        args, kwargs = tf.nest.map_structure(lambda item: item.value if is_variable(item) else item, (args, kwargs))
    return _own_handle(dispatcher, operator, args, kwargs)


def _rank(tensor: Any) -> int | None:
    return tensor.shape.rank  # type: ignore[no-any-return]
