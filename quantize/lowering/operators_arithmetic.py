"""Arithmetic operators and activations -> layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import (
    Call,
    Owned,
    Replacement,
    Result,
    as_array,
    is_scalar,
    is_tensor,
    operands_of,
    per_channel,
)
from edgeship.quantize.lowering.operators_gelu import gelu_of, halved_gelu


def with_array(kind: str, tensor: Any, value: Any, **options: Any) -> Result:
    """A tensor and a constant array or a variable, as ChannelScale, ArrayScale, ChannelShift or ArrayShift."""
    used = value.used_shape if isinstance(value, Owned) else np.shape(value)
    rank = tensor.shape.rank
    if len(used) > rank or (len(used) == rank and used[0] != 1):
        return None
    prefix = "Channel" if per_channel(used, tensor) else "Array"
    make = getattr(flat_layers, f"{prefix}{kind}")
    name = kind.lower()
    if isinstance(value, Owned):
        broadcast = None if value.used_shape == value.shape else value.used_shape
        return Replacement(make(shape=value.shape, broadcast=broadcast, name=name, **options), tensor, (value,))
    return Replacement(make(values=np.asarray(value, np.float32), name=name, **options), tensor)


def _add(call: Call) -> Result:
    first, second = operands_of(call)
    if is_tensor(first) and is_tensor(second):
        return Replacement(layers.Add(name="add"), [first, second])
    tensor, value = (first, second) if is_tensor(first) else (second, first)
    if is_scalar(value):
        return Replacement(layers.Rescaling(1.0, offset=float(as_array(value)), name="shift"), tensor)
    return with_array("Shift", tensor, value)


def _multiply(call: Call) -> Result:
    first, second = operands_of(call)
    if is_tensor(first) and is_tensor(second):
        return gelu_of(first, second) or Replacement(layers.Multiply(name="multiply"), [first, second])
    tensor, value = (first, second) if is_tensor(first) else (second, first)
    if is_scalar(value):
        scale = float(as_array(value))
        return halved_gelu(tensor, scale) or Replacement(layers.Rescaling(scale, name="scale"), tensor)
    return with_array("Scale", tensor, value)


def _subtract(call: Call) -> Result:
    first, second = operands_of(call)
    if is_tensor(first) and is_tensor(second):
        return Replacement(layers.Subtract(name="subtract"), [first, second])
    if is_tensor(first):
        if is_scalar(second):
            return Replacement(layers.Rescaling(1.0, offset=-float(as_array(second)), name="shift"), first)
        return with_array("Shift", first, second, negative=True)
    if is_scalar(first):
        return Replacement(layers.Rescaling(-1.0, offset=float(as_array(first)), name="shift"), second)
    shifted = with_array("Shift", second, first)
    negated = Replacement(layers.Rescaling(-1.0, name="negative"), second)
    return shifted and Replacement(shifted.layer, negated, shifted.weights)


def _divide(call: Call) -> Result:
    tensor, divisor = call["x"], call["y"]
    if not is_tensor(tensor) or is_tensor(divisor) or isinstance(divisor, Owned):
        return None
    values = np.asarray(divisor, np.float32)
    if values.size != 1 and not per_channel(values.shape, tensor):
        return None
    if values.size == 1 and float(values) != 0 and np.frexp(values.item())[0] in (0.5, -0.5):
        # The reciprocal of a power of two is exact.
        scale = 1.0 / values.item()
        return halved_gelu(tensor, scale) or Replacement(layers.Rescaling(scale, name="scale"), tensor)
    return Replacement(flat_layers.DivideBy(values.reshape(-1) if values.size > 1 else values.item(),
                                            name="divide"), tensor)


def _negative(call: Call) -> Result:
    return Replacement(layers.Rescaling(-1.0, name="negative"), call["x"])


def _square(call: Call) -> Result:
    return Replacement(layers.Multiply(name="square"), [call["x"], call["x"]])


def _add_n(call: Call) -> Result:
    tensors = list(call["inputs"])
    if len(tensors) == 1:
        return tensors[0]
    return Replacement(layers.Add(name="add"), tensors) if all(map(is_tensor, tensors)) else None


def _activation(name: str, argument: str = "features") -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        if call.get("beta", 1.0) != 1.0 or call.get("approximate", False):
            return None
        return Replacement(layers.Activation(name, name=name), call[argument])

    return build


def _relu6(call: Call) -> Result:
    return Replacement(layers.ReLU(6.0, name="relu6"), call["features"])


def _leaky_relu(call: Call) -> Result:
    alpha = call["alpha"]
    return Replacement(layers.LeakyReLU(float(as_array(alpha)), name="leaky_relu"), call["features"])


def _softmax(call: Call) -> Result:
    axis = call.get("axis")
    return Replacement(layers.Softmax(-1 if axis is None else int(axis), name="softmax"), call["logits"])


ARITHMETIC: dict[str, Callable[[Call], Result]] = {
    "__operators__.add": _add,
    "math.add": _add,
    "math.multiply": _multiply,
    "math.subtract": _subtract,
    "math.truediv": _divide,
    "math.divide": _divide,
    "math.negative": _negative,
    "math.square": _square,
    "math.add_n": _add_n,
    "nn.relu": _activation("relu"),
    "nn.relu6": _relu6,
    "nn.leaky_relu": _leaky_relu,
    "nn.elu": _activation("elu"),
    "nn.selu": _activation("selu"),
    "nn.gelu": _activation("gelu"),
    "nn.silu": _activation("swish"),
    "nn.softmax": _softmax,
    "math.sigmoid": _activation("sigmoid", "x"),
    "math.tanh": _activation("tanh", "x"),
    "math.softplus": _activation("softplus"),
}
