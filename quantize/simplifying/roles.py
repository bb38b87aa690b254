"""What each layer of a simplified model means for integer ranges.

    WEIGHTED   a product with a kernel: int8 weights, int32 bias, a range of its own for the result
    RANGE      computes from integers, with a range of its own for the result
    SAME       moves or chooses values: its result is on its inputs' grid, so they share one range
    FIXED      a function whose range is known and prescribed by the kernels

LiteRT demands what SAME and FIXED say (tensorflow/compiler/mlir/lite/ir/tfl_ops.td: SameOperandsAndResultsScale,
FixedResultUniformScale). A layer that is not here has no integer kernel in both runtimes.
"""

from __future__ import annotations

import enum
from typing import Any

from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.rewrites import activation_kind


class Role(enum.Enum):
    """See the module's description."""

    WEIGHTED = "weighted"
    RANGE = "range"
    SAME = "same"
    FIXED = "fixed"


# Fixed by TFLite's quantization specification: 1/256 or 1/128 per step, zero point -128 or 0.
SIGMOID_RANGE = (0.0, 255 / 256)
TANH_RANGE = (-1.0, 127 / 128)
FIXED_RANGES = {"sigmoid": SIGMOID_RANGE, "softmax": SIGMOID_RANGE, "tanh": TANH_RANGE}

ROLES: dict[type, Role] = {
    **dict.fromkeys((layers.Conv2D, layers.DepthwiseConv2D, layers.Dense), Role.WEIGHTED),
    **dict.fromkeys(
        (layers.Add, layers.Multiply, layers.GlobalAveragePooling2D, layers.ReLU, layers.LeakyReLU, flat_layers.MatMul),
        Role.RANGE,
    ),
    **dict.fromkeys((
        layers.AveragePooling2D, layers.Concatenate, layers.Cropping2D, layers.Flatten, layers.MaxPooling2D,
        layers.Permute, layers.Reshape, layers.ZeroPadding2D,
    ), Role.SAME),
    layers.Softmax: Role.FIXED,
    **dict.fromkeys((flat_layers.DepthToSpace, flat_layers.StridedSlice, flat_layers.Take), Role.SAME),
}
# SAME layers whose results are between grid points and must be rounded to them.
RESIZES = (layers.UpSampling2D, layers.Resizing, flat_layers.Resize)
ROUNDED = (layers.AveragePooling2D, *RESIZES)
INTERPOLATIONS = ("nearest", "bilinear")  # of which both runtimes have a kernel


def role_of(layer: Any) -> Role | None:
    """The layer's role; None where integers cannot compute it."""
    if type(layer) is layers.Activation:
        return Role.FIXED if activation_kind(layer.activation) in FIXED_RANGES else None
    if type(layer) is layers.ReLU and (layer.negative_slope or layer.threshold):
        return None
    if type(layer) is flat_layers.Reduce:
        return {"mean": Role.RANGE, "max": Role.SAME}.get(layer.kind)
    if type(layer) is flat_layers.Constant:
        return Role.RANGE if layer.span is None else Role.FIXED
    if type(layer) in RESIZES:
        whole = not getattr(layer, "crop_to_aspect_ratio", False)
        return Role.SAME if whole and layer.interpolation in INTERPOLATIONS else None
    if type(layer) is flat_layers.Pad:
        return Role.SAME if layer.mode == "CONSTANT" and layer.value == 0 else None
    return ROLES.get(type(layer))


def fixed_range(layer: Any) -> tuple[float, float]:
    """The range of a FIXED layer's result."""
    if type(layer) is flat_layers.Constant:
        assert layer.span is not None
        return layer.span
    return FIXED_RANGES["softmax" if type(layer) is layers.Softmax else activation_kind(layer.activation)]


def upper_end(layer: Any) -> float | None:
    """Where a ReLU clips above; None for one that does not, and for every other layer."""
    # Keras keeps it as an array of rank 0.
    return None if type(layer) is not layers.ReLU or layer.max_value is None else float(layer.max_value)
