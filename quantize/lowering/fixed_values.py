"""Real numbers that a network computes from shapes alone (coordinates, masks of ones): constants on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from edgeship.model.keras2 import arguments_of, is_tensor, node_of, read_by
from edgeship.quantize.lowering.operator_arguments import Owned
from edgeship.quantize.lowering.operators import is_operator, unversioned_operation_of

# Operators that read of a tensor nothing but its shape.
OF_SHAPES = ("shape", "shape_v2", "size", "size_v2", "rank", "ones_like", "ones_like_v2", "zeros_like", "zeros_like_v2")
# Two sizes of a batch, to tell apart what is one per example.
BATCHES = (2, 3)


@dataclass
class Fixed:
    """An array that broadcasts over the batch, and what it is where an operator takes tensors only.

    Args:
        array: (1, ...) where it is one per example, without a batch where it has none yet; owned where it was computed
            from variables, so that it trains.
    """

    array: np.ndarray | Owned
    make: Callable[[], Any]
    _tensor: Any = field(default=None, init=False)

    def tensor(self) -> Any:
        """The array as a tensor with a batch, made once."""
        if self._tensor is None:
            self._tensor = self.make()
        return self._tensor


def fixed_values(node: Any) -> tuple[np.ndarray, bool] | None:
    """What an operator computes from shapes alone, float32: `(1, ...)` for every example, or without a batch.

    Returns:
        (the values, whether they are for every example); None where the operator looks at more than shapes, where
        examples differ, and for integers, which are on their way to a shape.
    """
    outputs = tf.nest.flatten(node.outputs)
    if len(outputs) != 1 or not outputs[0].dtype.is_floating or anchor_of(node) is None:
        return None
    one, other = (np.asarray(_evaluated(outputs[0], batch, {}), np.float32) for batch in BATCHES)
    if one.shape == other.shape:
        return (one, False) if np.array_equal(one, other) else None
    if (len(one), len(other)) != BATCHES or one.shape[1:] != other.shape[1:]:
        return None
    same = np.array_equal(np.broadcast_to(one[:1], one.shape), one) and np.array_equal(
        np.broadcast_to(one[:1], other.shape), other
    )
    return (one[:1], True) if same else None


def anchor_of(node: Any) -> Any:
    """The tensor whose shape an operator's result comes from; None where the result depends on values."""
    found, pending = None, [node]
    while pending:
        current = pending.pop()
        if not is_operator(current.layer) or not read_by(current):
            return None
        if unversioned_operation_of(current.layer) in OF_SHAPES:
            tensor = read_by(current)[0]
            if None in tensor.shape[1:] or tensor.shape.rank == 0:
                return None
            found = found if found is not None else tensor
            continue
        pending += [node_of(tensor) for tensor in read_by(current)]
    return found


def owned_by(node: Any, disguised: dict[int, Owned]) -> tuple[Any, ...]:
    """The variables that an operator's result is computed from beside shapes, each once.

    Args:
        disguised: by id what is a variable though it does not look like one.
    """
    found: dict[int, Any] = {}
    pending = [node]
    while pending:
        current = pending.pop()
        if unversioned_operation_of(current.layer) in OF_SHAPES:
            continue
        for item in tf.nest.flatten(arguments_of(current)):
            owned = disguised.get(id(item))
            variables = owned.variables if owned else (item,) if isinstance(item, tf.Variable) else ()
            found |= {id(variable): variable for variable in variables}
        pending += [node_of(tensor) for tensor in read_by(current)]
    return tuple(found.values())


def _evaluated(tensor: Any, batch: int, known: dict[int, Any]) -> Any:
    """The tensor's values for a batch of this size."""
    node = node_of(tensor)
    if id(node) not in known:
        reads_shape = unversioned_operation_of(node.layer) in OF_SHAPES

        def value_of(item: Any) -> Any:
            if not is_tensor(item):
                return item
            return tf.zeros((batch, *item.shape[1:]), item.dtype) if reads_shape else _evaluated(item, batch, known)

        args, kwargs = tf.nest.map_structure(value_of, arguments_of(node))
        known[id(node)] = node.layer.call(*args, **kwargs)
    outputs = [id(output) for output in tf.nest.flatten(node.outputs)]
    return tf.nest.flatten(known[id(node)])[outputs.index(id(tensor))]
