"""Operators that no layer means, in operations that integers have: a square, a small power, an absolute value.

The lowered network keeps the operator, whose float32 bits are TensorFlow's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model.keras2 import arguments_of, calls_of, is_tensor
from edgeship.quantize.simplifying.replacement import Replacement


def operator(layer: Any) -> Replacement | None:
    """Return what stands for an operator; None where it has no integer form."""
    make = OPERATORS.get(layer.get_config().get("function"))
    calls = [arguments_of(node) for node in calls_of(layer)]
    # Keras calls an operator with its tensors by position, however it was written.
    if make is None or len(calls) != 1 or not is_tensor(next(iter(calls[0][0]), None)):
        return None
    build = make(*calls[0])
    return None if build is None else Replacement(layer, build)


def _absolute(args: Any, kwargs: Any) -> Callable[..., Any]:
    """|x| = relu(x) + relu(-x)."""
    def build(parts: Replacement, tensor: Any) -> Any:
        negative = parts.layer("minus", layers.Rescaling, -1.0)(tensor)
        return parts.layer("", layers.Add)([
            parts.layer("above", layers.ReLU)(tensor), parts.layer("below", layers.ReLU)(negative),
        ])

    return build


def _power(args: Any, kwargs: Any) -> Callable[..., Any] | None:
    """The powers 2, 3 and 4 as products of two tensors."""
    exponent = args[1] if len(args) > 1 else kwargs.get("y")
    if is_tensor(exponent) or np.ndim(exponent) or exponent not in (2, 3, 4):
        return None

    def build(parts: Replacement, tensor: Any, *_: Any) -> Any:
        squared = parts.layer("" if exponent == 2 else "square", layers.Multiply)([tensor, tensor])
        if exponent == 2:
            return squared
        return parts.layer("", layers.Multiply)([squared, tensor if exponent == 3 else squared])

    return build


# TensorFlow's function -> (arguments by position, by name) -> what is built of the tensors.
OPERATORS: dict[str, Callable[[Any, Any], Callable[..., Any] | None]] = {
    "math.abs": _absolute,
    "math.pow": _power,
}
