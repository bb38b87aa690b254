"""Functions of Keras 3's TensorFlow backend that do not take the symbolic tensors of Keras 2 as they are.

All others do: they are made of functions of TensorFlow, each of which becomes an operator of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src import backend

from edgeship.model.keras2 import is_tensor


def _extreme(reduce: Callable[..., Any], merge: Callable[..., Any]) -> Callable[..., Any]:
    """Keras asks in Python whether the tensor is empty; a symbolic one is not."""

    def extreme(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
        found = reduce(x, axis=axis, keepdims=keepdims)
        return found if initial is None else merge(found, initial)

    return extreme


def _take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Keras counts negative indices from the end by operators on shapes; those of a constant are counted here."""
    if axis is None:
        return _take(tf.reshape(x, [-1]), indices, axis=0)
    length = x.shape[axis]
    if length is not None and not tf.is_tensor(indices) and not is_tensor(indices):
        indices = np.where(np.asarray(indices) < 0, np.asarray(indices) + length, indices)
    return tf.gather(x, indices, axis=axis)


def _swap_axes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.shape.rank))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return tf.transpose(x, order)


# (module of the backend, function) -> the same for symbolic tensors.
FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "max"): _extreme(tf.reduce_max, tf.maximum),
    ("numpy", "min"): _extreme(tf.reduce_min, tf.minimum),
    ("numpy", "amax"): _extreme(tf.reduce_max, tf.maximum),
    ("numpy", "amin"): _extreme(tf.reduce_min, tf.minimum),
    ("numpy", "swapaxes"): _swap_axes,
    ("numpy", "take"): _take,
}


def for_symbolic_tensors() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Yield (module, name, function): what stands in the place of each of these functions."""
    for (part, name), function in FUNCTIONS.items():
        module = getattr(backend, part)
        yield module, name, _chosen(getattr(module, name), function)


def _chosen(original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    def choose(x: Any, *args: Any, **kwargs: Any) -> Any:
        return (function if is_tensor(x) else original)(x, *args, **kwargs)

    return choose
