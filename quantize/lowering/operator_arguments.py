"""A traced operator's arguments (tensors, constants, own variables, static shapes) and what replaces it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import inferred_value, is_tensor, node_of, read_by


@dataclass(frozen=True)
class Owned:
    """A variable that a composite layer made itself, in the shape in which an operator used it.

    Args:
        values: where the operator used something computed from the variable (a standardized kernel): that. It is
            computed once, and becomes a weight of its own.
        sources: all the variables it was computed from.
    """

    variable: Any
    used_shape: tuple[int, ...]
    values: np.ndarray | None = None
    sources: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape) if self.values is None else tuple(self.values.shape)

    @property
    def trainable(self) -> bool:
        return any(variable.trainable for variable in self.variables)

    @property
    def variables(self) -> tuple[Any, ...]:
        """The variables that are accounted for by this use."""
        return self.sources or (self.variable,)

    @property
    def key(self) -> Any:
        """Equal for two uses of one variable in one way."""
        return id(self.variable), None if self.values is None else self.values.tobytes()

    def numpy(self) -> np.ndarray:
        """The weight's values."""
        return np.asarray(self.variable if self.values is None else self.values)


@dataclass(frozen=True)
class Call:
    """One operator call: its arguments by name and its symbolic outputs."""

    scope: str
    values: dict[str, Any]
    outputs: list[Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    def first(self, *names: str) -> Any:
        """The first of these arguments that is given: TensorFlow spells one thing in several ways."""
        return next((self.values[name] for name in names if self.values.get(name) is not None), None)


# What an operator is replaced by: a tensor that is already there, a layer to call, or several; None: nothing is.
Result = Any


@dataclass(frozen=True)
class Replacement:
    """A fresh layer and what to call it on: tensors, or replacements that come before it.

    `weights` are the values of the layer's weights in order: a composite's own variable, or a constant array.
    """

    layer: layers.Layer
    inputs: Any
    weights: tuple[Owned | np.ndarray, ...] = field(default=())


def as_array(value: Any) -> np.ndarray:
    return np.asarray(value)


def is_scalar(value: Any) -> bool:
    """Whether a value is one constant number."""
    return not is_tensor(value) and not isinstance(value, Owned) and np.size(value) == 1 and np.ndim(value) == 0


def per_channel(shape: Any, tensor: Any) -> bool:
    """Whether an array of this shape holds one number for every channel (last axis) of a tensor, or just one."""
    sizes = list(shape)
    return not sizes or (set(sizes[:-1]) <= {1} and sizes[-1] in (1, tensor.shape[-1]))


def as_slice(item: Any) -> Any:
    """A slice, which Keras keeps as a dictionary of its ends; what is none as it is."""
    return slice(item["start"], item["stop"], item["step"]) if isinstance(item, dict) else item


def operands_of(call: Call) -> tuple[Any, Any]:
    """The two sides of an operator. Raises LoweringError for tensors that broadcast over the batch."""
    first, second = call["x"], call["y"]
    if is_tensor(first) and is_tensor(second) and first.shape.rank != second.shape.rank:
        raise LoweringError(
            f"{call.scope}: an operator on tensors of rank {first.shape.rank} and {second.shape.rank} broadcasts over "
            "the batch; reshape the smaller one to the same rank"
        )
    return first, second


def static_shape(value: Any) -> list[int | None] | None:
    """A shape argument as integers, None for what only the batch decides; None where it is not a shape at all."""
    if is_tensor(value):
        known = _static_value(value)
        return None if known is None else list(known)
    sizes: list[int | None] = []
    for item in value if isinstance(value, list | tuple | np.ndarray | tf.TensorShape) else [value]:
        if is_tensor(item):
            known = _static_value(item)
            if known is None or len(known) != 1:
                return None
            sizes.append(known[0])
        else:
            sizes.append(None if item is None else int(item))
    return sizes


def _static_value(tensor: Any) -> list[int | None] | None:
    """What Keras inferred of an integer tensor that was computed from `tf.shape`."""
    node = node_of(tensor)
    if node is not None and node.layer.get_config().get("function") == "unstack":
        whole = _static_value(read_by(node)[0])
        place = [id(output) for output in tf.nest.flatten(node.outputs)].index(id(tensor))
        return None if whole is None else [whole[place]]
    inferred = inferred_value(tensor)
    return None if inferred is None else [None if size is None else int(size) for size in inferred]
