"""Layers that integers have no kernel for -> the layers that mean the same and have one.

One table, layer class -> function; each function looks at one layer and returns its replacement, or None where the
layer can stay. What is not in the table stays too, and `roles` decides whether integers can compute it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import OPERATOR, maker_of
from edgeship.quantize.simplifying.average_pooling import averaged
from edgeship.quantize.simplifying.extremes import largest, smallest
from edgeship.quantize.simplifying.operators import operator
from edgeship.quantize.simplifying.padding import joined_padding
from edgeship.quantize.simplifying.products import dot, einsum
from edgeship.quantize.simplifying.replacement import Replacement, nothing
from edgeship.quantize.simplifying.shared_dense import shared_dense
from edgeship.quantize.simplifying.sizes import center_crop, global_max, picked, random_crop, resizing
from edgeship.quantize.simplifying.takes import repeated_vector, taken
from edgeship.quantize.simplifying.transposed import sub_pixel


@dataclass(frozen=True)
class Weights:
    """Where a weighted layer keeps its kernel, and which of its axes are output channels (in this order)."""

    attribute: str
    output_axes: tuple[int, ...]


weights_of: dict[type, Weights] = {
    layers.Conv2D: Weights("kernel", (3,)),
    layers.DepthwiseConv2D: Weights("depthwise_kernel", (2, 3)),
    layers.Conv2DTranspose: Weights("kernel", (2,)),
    layers.Dense: Weights("kernel", (1,)),
}


def activate(parts: Replacement, function: Any, tensor: Any, suffix: str | None = None) -> Any:
    """Apply an activation function in the layers that integers know."""
    kind = activation_kind(function)
    name = kind if suffix is None else suffix
    if kind == "linear":
        return tensor
    if kind == "relu":
        return parts.layer(name, layers.ReLU)(tensor)
    if kind == "relu6":
        return parts.layer(name, layers.ReLU, 6.0)(tensor)
    if kind in ("swish", "silu"):
        gate = parts.layer("sigmoid", layers.Activation, "sigmoid")(tensor)
        return parts.layer(name, layers.Multiply)([tensor, gate])
    if kind == "hard_sigmoid":
        # Keras 2: clip(0.2 x + 0.5, 0, 1); the range of the result clips at 1 by itself.
        scaled = parts.layer("scaled", layers.Rescaling, 0.2, offset=0.5)(tensor)
        return parts.layer(name, layers.ReLU, 1.0)(scaled)
    return parts.layer(name, layers.Activation, function)(tensor)


def activation_kind(function: Any) -> str:
    """The name of an activation function: "linear", "relu", "sigmoid" ..."""
    return str(getattr(function, "__name__", type(function).__name__))


def _weighted(layer: Any) -> Replacement | None:
    if activation_kind(layer.activation) == "linear":
        return None

    def build(parts: Replacement, tensor: Any) -> Any:
        config = _config(layer, activation="linear")
        return activate(parts, layer.activation, parts.layer("", type(layer), **config)(tensor))

    return Replacement(layer, build, {"": layer.get_weights()})


def _dense(layer: Any) -> Replacement | None:
    over_units = activation_kind(layer.activation) == "softmax"
    made = shared_dense(layer, lambda parts, x: activate(parts, layer.activation, x), over_units=over_units)
    return made or _weighted(layer)


def _separable(layer: Any) -> Replacement:
    """SeparableConv2D: depthwise without bias, then 1x1 with bias and activation."""
    depthwise, pointwise, *bias = layer.get_weights()

    def build(parts: Replacement, tensor: Any) -> Any:
        first = parts.layer(
            "depthwise", layers.DepthwiseConv2D, layer.kernel_size, strides=layer.strides, padding=layer.padding,
            depth_multiplier=layer.depth_multiplier, dilation_rate=layer.dilation_rate, use_bias=False,
        )
        second = parts.layer("", layers.Conv2D, layer.filters, 1, use_bias=layer.use_bias)
        return activate(parts, layer.activation, second(first(tensor)))

    return Replacement(layer, build, {"depthwise": [depthwise], "": [pointwise, *bias]})


def _activation(layer: Any) -> Replacement | None:
    kind = activation_kind(layer.activation)
    if kind not in ("linear", "relu", "relu6", "swish", "silu", "hard_sigmoid"):
        return None
    return Replacement(layer, lambda parts, x: activate(parts, layer.activation, x, suffix=""))


def _relu(layer: Any) -> Replacement | None:
    if not layer.negative_slope or layer.max_value is not None or layer.threshold:
        return None
    slope = float(layer.negative_slope)
    return Replacement(layer, lambda parts, x: parts.layer("", layers.LeakyReLU, slope)(x))


def _prelu(layer: Any) -> Replacement | None:
    """max(x, 0) - a max(-x, 0) as x + (1 - a) max(-x, 0): ONNX Runtime has no integer PReLU.

    Two operations where no slope is above 1: (1 - a) max(-x, 0) = max((a - 1) x, 0), a product with its ReLU.
    """
    slopes = np.asarray(layer.alpha, np.float32)
    if slopes.size == 1:
        return Replacement(layer, lambda parts, x: parts.layer("", layers.LeakyReLU, slopes.item())(x))
    if slopes.size != slopes.shape[-1]:
        return None
    slopes = slopes.reshape(-1)

    def build(parts: Replacement, x: Any) -> Any:
        if np.all(slopes <= 1):
            negative = parts.layer("negative", flat_layers.ChannelScale, values=slopes - 1)(x)
            rest = parts.layer("rest", layers.ReLU)(negative)
        else:
            negative = parts.layer("negative", layers.Rescaling, -1.0)(x)
            below = parts.layer("below", layers.ReLU)(negative)
            rest = parts.layer("rest", flat_layers.ChannelScale, values=1 - slopes)(below)
        return parts.layer("", layers.Add)([x, rest])

    return Replacement(layer, build)


def _pairwise(make: Callable[..., Any]) -> Callable[[Any], Replacement | None]:
    """An operation of n tensors as n - 1 of two: each result then has an integer range of its own."""

    def rewrite(layer: Any) -> Replacement | None:
        if len(layer.get_input_at(0)) == 2:
            return None

        def build(parts: Replacement, tensors: Any) -> Any:
            result = tensors[0]
            for position, tensor in enumerate(tensors[1:], 1):
                suffix = "" if position == len(tensors) - 1 else f"part{position}"
                result = parts.layer(suffix, make)([result, tensor])
            return result

        return Replacement(layer, build)

    return rewrite


def _average(layer: Any) -> Replacement:
    def build(parts: Replacement, tensors: Any) -> Any:
        total = tensors[0]
        for position, tensor in enumerate(tensors[1:], 1):
            total = parts.layer(f"sum{position}", layers.Add)([total, tensor])
        return parts.layer("", layers.Rescaling, 1.0 / len(tensors))(total)

    return Replacement(layer, build)


def _subtract(layer: Any) -> Replacement:
    """a - b = a + (-1) b: ONNX Runtime has an integer addition and no integer subtraction."""

    def build(parts: Replacement, tensors: Any) -> Any:
        minus = parts.layer("minus", layers.Rescaling, -1.0)(tensors[1])
        return parts.layer("", layers.Add)([tensors[0], minus])

    return Replacement(layer, build)


def _clip(layer: Any) -> Replacement | None:
    """From 0 up: a ReLU, whose range clips above; from another number up: a shift, a ReLU, and the shift back.

    min(x, high) is high - relu(high - x), and a ReLU that ends there where no x is below 0.
    """
    low, high = layer.low, layer.high
    if low == 0 or (low is None and high is not None and high > 0 and is_relu(maker_of(layer.get_input_at(0)))):
        return Replacement(layer, lambda parts, x: parts.layer("", layers.ReLU, high)(x))
    if (low is None and high is None) or (None not in (low, high) and high <= low):
        return None
    sign, start = (-1.0, high) if low is None else (1.0, low)
    width = None if None in (low, high) else high - low

    def build(parts: Replacement, tensor: Any) -> Any:
        shifted = parts.layer("shifted", layers.Rescaling, sign, offset=-sign * start)(tensor)
        cut = parts.layer("relu", layers.ReLU, width)(shifted)
        return parts.layer("", layers.Rescaling, sign, offset=start)(cut)

    return Replacement(layer, build)


def is_relu(layer: Any, *, without_end: bool = False) -> bool:
    """Return whether a layer is a ReLU without a slope and a threshold, and `without_end` also without an upper end."""
    if type(layer) is not layers.ReLU or layer.negative_slope or layer.threshold:
        return False
    return layer.max_value is None or not without_end


def _reduce(layer: Any) -> Replacement | None:
    """The mean or sum over channels as a 1x1 convolution, another sum as a mean and a product with a constant.

    ONNX Runtime has no integer ReduceMean over channels, and neither runtime's sum is the other's.
    """
    shape = layer.get_input_at(0).shape
    axes = [axis % shape.rank for axis in layer.axes]
    if layer.kind not in ("mean", "sum") or None in shape[1:]:
        return None
    if shape.rank == 4 and axes == [3]:
        return _over_channels(layer, shape)
    return None if layer.kind == "mean" else _sum(layer, axes, math.prod(shape[axis] for axis in axes))


def _over_channels(layer: Any, shape: Any) -> Replacement:
    channels = int(shape[3])

    def build(parts: Replacement, tensor: Any) -> Any:
        name = "" if layer.keepdims else layer.kind
        reduced = parts.layer(name, layers.Conv2D, 1, 1, use_bias=False, trainable=False)(tensor)
        return reduced if layer.keepdims else parts.layer("", layers.Reshape, tuple(shape[1:3]))(reduced)

    factor = 1 / channels if layer.kind == "mean" else 1.0
    weights = [np.full((1, 1, channels, 1), factor, np.float32)]
    return Replacement(layer, build, {"" if layer.keepdims else layer.kind: weights})


def _sum(layer: Any, axes: list[int], count: int) -> Replacement:
    def build(parts: Replacement, tensor: Any) -> Any:
        if tensor.shape.rank == 4 and sorted(axes) == [1, 2]:
            mean = parts.layer("mean", layers.GlobalAveragePooling2D, keepdims=layer.keepdims)(tensor)
        else:
            mean = parts.layer("mean", flat_layers.Reduce, "mean", axes, layer.keepdims)(tensor)
        return parts.layer("", layers.Rescaling, float(count))(mean)

    return Replacement(layer, build)


def _average_pooling(layer: Any) -> Replacement:
    return Replacement(layer, lambda parts, tensor: averaged(parts, tensor, layer))


def _pad(layer: Any) -> Replacement | None:
    build = joined_padding(layer)
    return None if build is None else Replacement(layer, build)


def _transposed(layer: Any) -> Replacement | None:
    parts = sub_pixel(layer)
    return None if parts is None else Replacement(layer, parts.build, {"": parts.weights})


def _config(layer: Any, **changes: Any) -> dict[str, Any]:
    """The layer's constructor arguments with some changed, its name left out."""
    config = copy.deepcopy(layer.get_config())
    config.update(changes)
    del config["name"]
    # A rebuilt layer starts from the old one's weights.
    return {key: value for key, value in config.items() if not key.endswith("_initializer")}


# Layers that do nothing in inference.
NOTHING = (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout, layers.ActivityRegularization,
)
REWRITES: dict[type, Callable[[Any], Replacement | None]] = {
    layers.Conv2D: _weighted,
    layers.DepthwiseConv2D: _weighted,
    layers.Conv2DTranspose: _weighted,
    layers.Dense: _dense,
    layers.SeparableConv2D: _separable,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    layers.Add: _pairwise(layers.Add),
    layers.Multiply: _pairwise(layers.Multiply),
    layers.Average: _average,
    layers.Subtract: _subtract,
    layers.Maximum: largest,
    layers.Minimum: smallest,
    layers.GlobalMaxPooling2D: global_max,
    layers.AveragePooling2D: _average_pooling,
    flat_layers.Clip: _clip,
    flat_layers.Pad: _pad,
    flat_layers.Reduce: _reduce,
    flat_layers.StridedSlice: picked,
    flat_layers.Take: taken,
    layers.RepeatVector: repeated_vector,
    flat_layers.Einsum: einsum,
    layers.Dot: dot,
    layers.PReLU: _prelu,
    layers.Resizing: resizing,
    layers.RandomCrop: random_crop,
    OPERATOR: operator,
    layers.CenterCrop: center_crop,
    **dict.fromkeys(NOTHING, nothing),
}
# After batch norms were folded into them.
LATE_REWRITES: dict[type, Callable[[Any], Replacement | None]] = {layers.Conv2DTranspose: _transposed}

__all__ = ["LATE_REWRITES", "NOTHING", "REWRITES", "Replacement", "activate", "is_relu", "weights_of"]
