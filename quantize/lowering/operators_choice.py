"""Operators that choose between two tensors, element by element -> layers; a leaky ReLU written so is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import arguments_of, maker_of, node_of, read_by
from edgeship.quantize.lowering.operator_arguments import (
    Call,
    Replacement,
    Result,
    as_array,
    is_scalar,
    is_tensor,
    operands_of,
)

# Comparisons with 0 -> whether they ask for the positive numbers. At 0 both branches of a leaky ReLU are 0.
POSITIVE = {"math.greater": True, "math.greater_equal": True, "math.less": False, "math.less_equal": False}


def _extreme(merge: Callable[..., layers.Layer], name: str, end: str) -> Callable[[Call], Result]:
    """Of two tensors, or of a tensor and a number, which is then one end of a clipping."""

    def build(call: Call) -> Result:
        first, second = operands_of(call)
        if is_tensor(first) and is_tensor(second):
            return _leaky_extreme(first, second, name) or Replacement(merge(name=name), [first, second])
        tensor, value = (first, second) if is_tensor(first) else (second, first)
        return _clip(tensor, **{"low": None, "high": None, end: value})

    return build


def _leaky_extreme(first: Any, second: Any, name: str) -> Result:
    """max(x, a x) for a up to 1, min(x, a x) for a from 1 on; None for others."""
    for tensor, other in ((first, second), (second, first)):
        slope = _factor(other, of=tensor)
        if slope is not None and (0 <= slope <= 1 if name == "maximum" else slope >= 1):
            return Replacement(layers.LeakyReLU(slope, name="leaky_relu"), tensor)
    return None


def _where(call: Call) -> Result:
    """`tf.where(x > 0, x, a x)` and its kin; None where it is another choice."""
    condition, first, second = call["condition"], call.get("x"), call.get("y")
    found = _compared_with_zero(condition) if is_tensor(condition) else None
    if found is None:
        return None
    tensor, is_positive = found
    above, below = (first, second) if is_positive else (second, first)
    if above is not tensor:
        return None
    if _is_zero(below):
        return Replacement(layers.ReLU(name="relu"), tensor)
    slope = _factor(below, of=tensor)
    return None if slope is None or slope < 0 else Replacement(layers.LeakyReLU(slope, name="leaky_relu"), tensor)


def _compared_with_zero(condition: Any) -> tuple[Any, bool] | None:
    """The tensor that a condition compares with 0, and whether it asks for the positive ones; None for others."""
    node = node_of(condition)
    if maker_of(condition).get_config().get("function") == "cast":  # Keras 3 casts a condition to what it is
        node = node_of(read_by(node)[0])
    kind = node.layer.get_config().get("function") if type(node.layer).__name__ == "TFOpLambda" else None
    if kind not in POSITIVE:
        return None
    args, kwargs = arguments_of(node)
    first, second = (*args, *(kwargs[key] for key in ("x", "y") if key in kwargs))[:2]
    if is_tensor(first) and _is_zero(second):
        return first, POSITIVE[kind]
    if is_tensor(second) and _is_zero(first):
        return second, not POSITIVE[kind]
    return None


def _is_zero(value: Any) -> bool:
    """Whether a value is a constant of nothing but zeros."""
    if is_tensor(value):
        layer = maker_of(value)
        value = layer.values if type(layer) is flat_layers.Constant else None
    return isinstance(value, int | float | np.ndarray | np.generic | tf.Tensor) and not np.any(np.asarray(value))


def _factor(tensor: Any, *, of: Any) -> float | None:
    """The number by which a tensor is another one, multiplied; None where it is something else."""
    if not is_tensor(tensor):
        return None
    layer = maker_of(tensor)
    if type(layer) is not layers.Rescaling or layer.offset or np.size(layer.scale) != 1:
        return None
    return float(layer.scale) if read_by(node_of(tensor))[0] is of else None


def _clip_by_value(call: Call) -> Result:
    return _clip(call["t"], call["clip_value_min"], call["clip_value_max"])


def _clip(tensor: Any, low: Any, high: Any) -> Result:
    if not all(end is None or is_scalar(end) for end in (low, high)):
        return None
    lower, upper = (None if end is None else float(as_array(end)) for end in (low, high))
    if lower == 0 and (upper is None or upper > 0):
        return Replacement(layers.ReLU(upper, name="relu" if upper is None else "clip"), tensor)
    return Replacement(flat_layers.Clip(lower, upper, name="clip"), tensor)


CHOICES: dict[str, Callable[[Call], Result]] = {
    "math.maximum": _extreme(layers.Maximum, "maximum", "low"),
    "math.minimum": _extreme(layers.Minimum, "minimum", "high"),
    "clip_by_value": _clip_by_value,
    "where": _where,
    "where_v2": _where,
}
# Those whose first tensor is a condition.
CONDITIONAL = ("where", "where_v2")
