"""Twins: calls that compute the same of the same tensors, such as two average pools of one tensor, become one.

The TFLite converter (2.21) makes one operation of equal ones before it looks at their ranges. Two readers with a range
of their own each are then left of what was one reader each, and the operation is computed in float. Without twins
there is nothing to join, and each tensor has one range.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.model.keras2 import arguments_with, read_by
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, rebuild


@dataclass(frozen=True, eq=False)
class Twins:
    """Which calls of a network repeat earlier ones."""

    earlier: dict[int, Any]  # id of a node -> the node that computes the same before it
    layers: dict[str, str]  # name of a layer all of whose calls are repetitions -> that of the one it repeats


def twins_of(model: tf_keras.Model, *, apart: Collection[str] = ()) -> Twins:
    """Find the twins of a functional model; those among model outputs are left, since each has a name of its own.

    Args:
        apart: names of layers that are twins of one another, but of no others (those that stay in float).
    """
    outputs = {id(tensor) for tensor in model.outputs}
    standing: dict[int, Any] = {}  # id(tensor) -> the tensor that stands for it
    known: dict[Any, list[Any]] = {}  # what calls mean but for their weights -> the first call of each
    earlier: dict[int, Any] = {}
    repeated: dict[str, list[str | None]] = {}
    for node in nodes_of(model):
        made = tf.nest.flatten(node.outputs)
        alike = known.setdefault((_meaning(node, standing), node.layer.name in apart), [])
        found = next((other for other in alike if _have_equal_weights(other.layer, node.layer)), None)
        twin = None if outputs & set(map(id, made)) else found
        if found is None:
            alike.append(node)
        if twin is not None:
            earlier[id(node)] = twin
            standing |= {id(old): new for old, new in zip(made, tf.nest.flatten(twin.outputs), strict=True)}
        repeated.setdefault(node.layer.name, []).append(None if twin is None else twin.layer.name)
    return Twins(earlier, {
        name: twins[0] for name, twins in repeated.items()
        if twins[0] is not None and None not in twins and name not in twins
    })


def without_twins(model: tf_keras.Model, twins: Twins) -> tf_keras.Model:
    """Return the network in which each twin is computed once; the model itself where there is none."""
    if not twins.earlier:
        return model
    copies = Copies()
    made: dict[int, Any] = {}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        twin = twins.earlier.get(id(node))
        made[id(node)] = call(copies, node.layer, args, kwargs) if twin is None else made[id(twin)]
        return made[id(node)]

    joined = rebuild(model, replay)
    joined.output_names = model.output_names
    return joined


def _meaning(node: Any, standing: dict[int, Any]) -> tuple[Any, ...]:
    """What a call computes: two calls of one meaning, of equal weights, give the same numbers."""
    layer = node.layer
    config = {key: value for key, value in layer.get_config().items() if key not in ("name", "trainable")}
    tensors = {id(tensor): standing.get(id(tensor), tensor) for tensor in read_by(node)}
    args, kwargs = arguments_with(node, {key: _Read(id(tensor)) for key, tensor in tensors.items()})
    kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    given = [_digest(value) for value in tf.nest.flatten((args, kwargs))]
    return type(layer), json.dumps(config, sort_keys=True, default=_digest), tuple(given), str(list(kwargs))


def _have_equal_weights(one: Any, other: Any) -> bool:
    return one is other or all(
        np.array_equal(first, second) for first, second in zip(one.get_weights(), other.get_weights(), strict=True)
    )


def _digest(value: Any) -> str:
    """Return a text that is equal for equal values; an array's `repr` leaves out what is in the middle."""
    if isinstance(value, np.ndarray | tf.Tensor):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(value)


@dataclass(frozen=True)
class _Read:
    """A tensor in the arguments of a call."""

    tensor: int
