"""An average pooling as a depthwise product with one constant, which both runtimes compute alike.

TFLite's integer AVERAGE_POOL_2D rounds halves away from zero on the integers themselves, ONNX Runtime rounds real
numbers, and XNNPACK does not take it. A depthwise convolution with the constant 1 / (rows * columns) is one integer
product per tap (the integer is 127, so the weights are exact) and has a range of its own. Measured on x86 with AVX2
(LiteRT 2.3, ONNX Runtime 1.32, one thread), 0 instead of 2 or 3 LSB between the two files:

    2x2 by 2 of 32x32x64        +2 dB    LiteRT 0.71 of the time, ONNX Runtime 0.51
    3x3 by 2 of 28x28x128       +4 dB    LiteRT 0.77, ONNX Runtime 0.62
    3x3 "same" of 16x16x64      +2 dB    LiteRT 0.46, ONNX Runtime 0.42   (with the division at the border)
    2x1 by 2x1 of 32x10x64      +3 dB    LiteRT 0.54, ONNX Runtime 0.68   (on one column, with its reshapes)
    the whole of 7x7x256, as a mean    +7 dB    LiteRT 0.96, ONNX Runtime 0.92
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.model.flat_layers import Constant

# Taps of one depthwise product: XNNPACK has kernels of up to 25 taps, and takes 2 to 4 times as long as TFLite's own
# AVERAGE_POOL_2D for more (8x8 by 8 of 16x16x64: 0.094 ms instead of 0.035 ms).
MOST_TAPS = 25
CODES = 255  # steps of a range
# Codes that the largest number of a border may have: a smaller one would leave too few steps for the others.
LARGEST_CODES = range(255, 127, -1)


def averaged(parts: Any, tensor: Any, pooling: layers.AveragePooling2D) -> Any:
    """Return the average pooling of a tensor, from `parts` named after the layer.

    Args:
        parts: makes each part once (`rewrites.Replacement`).
        tensor: `(batch, rows, columns, channels)`.
        pooling: a channels-last layer; it may be called on tensors of several shapes.
    """
    shape = tuple(tensor.shape)
    window, strides, fills = tuple(pooling.pool_size), tuple(pooling.strides), _filled(pooling, shape)
    is_all_filled = fills is not None and bool(np.all(fills == 1))
    if is_all_filled and window == shape[1:3]:
        return parts.of_shape(shape, "", layers.GlobalAveragePooling2D, keepdims=True)(tensor)
    is_side_by_side = is_all_filled and strides == window
    stride, stages = _one_stride(pooling, shape), _stages(window, is_side_by_side=is_side_by_side)
    if stride is None and is_side_by_side and (steps := _by_axes(window, shape)) is not None:
        return _averaged_by_axes(parts, tensor, steps)
    if stride is None or fills is None or stages is None:
        return parts.of_shape(shape, "", layers.AveragePooling2D, window, strides, pooling.padding)(tensor)
    if is_all_filled:
        return _products(parts, shape, tensor, stages, "", stride=stride)
    product = _products(parts, shape, tensor, stages, "window", stride=stride, padding=pooling.padding)
    border = (1 / fills).astype(np.float32)[..., None]
    span = (0.0, _largest_on_grid(border))
    constant = parts.of_shape(shape, "border", Constant, border, span=span)(tensor)
    return parts.of_shape(shape, "", layers.Multiply)([product, constant])


def _products(
    parts: Any, shape: Any, tensor: Any, stages: list[tuple[int, int]], suffix: str, *, stride: int,
    padding: str = "valid",
) -> Any:
    """Depthwise convolutions with 1 / (rows * columns), one per stage. They are no weights of the user's: frozen."""
    for number, window in enumerate(stages, 1):
        is_last = number == len(stages)
        words = (suffix,) if is_last else (suffix, f"part{number}")
        tensor = parts.of_shape(
            shape, "_".join(filter(None, words)), layers.DepthwiseConv2D, window,
            stride if len(stages) == 1 else max(window), padding, use_bias=False, trainable=False,
            depthwise_initializer=tf_keras.initializers.Constant(1 / math.prod(window)),
        )(tensor)
    return tensor


def _stages(window: tuple[int, int], *, is_side_by_side: bool) -> list[tuple[int, int]] | None:
    """The windows of one product, or of several one after the other, each of few taps; None where none will do.

    A mean of 8x8 elements side by side is the mean of 2x2 means of 4x4 elements.
    """
    rows, columns = window
    if rows * columns == 1:
        return None  # elements are moved and not computed
    if rows * columns <= MOST_TAPS:
        return [window]
    if not is_side_by_side:
        return None
    stages = []
    while rows * columns > 1:
        windows = ((min(rows, factor), min(columns, factor)) for factor in range(MOST_TAPS, 1, -1))
        stage = next((
            (high, wide) for high, wide in windows
            if high * wide <= MOST_TAPS and rows % high == columns % wide == 0
        ), None)
        if stage is None:
            return None
        stages.append(stage)
        rows, columns = rows // stage[0], columns // stage[1]
    return stages


@dataclass(frozen=True)
class _Step:
    """The mean along one axis, on the tensor seen as an image of one column or of one row: that has any stride."""

    name: str
    image: tuple[int, int, int]
    stages: list[tuple[int, int]]
    result: tuple[int, int, int]


def _by_axes(window: tuple[int, int], shape: tuple[Any, ...]) -> list[_Step] | None:
    """Windows side by side whose two sizes differ: the rows' mean, then the columns'; None where that is not exact."""
    (rows, columns), (_, height, width, channels) = window, shape
    if None in shape[1:] or (columns > 1 and width % columns):
        return None
    few = height // rows
    steps = []
    for name, image, size, result in (
        ("rows", (height, 1, width * channels), (rows, 1), (few, width, channels)),
        ("columns", (1, few * width, channels), (1, columns), (few, width // columns, channels)),
    ):
        stages = _stages(size, is_side_by_side=True)
        if stages is None and math.prod(size) > 1:
            return None
        if stages is not None:
            steps.append(_Step(name, image, stages, result))
    return steps


def _averaged_by_axes(parts: Any, tensor: Any, steps: list[_Step]) -> Any:
    shape = tuple(tensor.shape)
    for step in steps:
        tensor = parts.of_shape(shape, f"{step.name}_image", layers.Reshape, step.image)(tensor)
        stride = max(step.stages[-1])
        tensor = _products(parts, shape, tensor, step.stages, step.name, stride=stride)
    return parts.of_shape(shape, "", layers.Reshape, steps[-1].result)(tensor)


def _one_stride(pooling: Any, shape: tuple[int | None, ...]) -> int | None:
    """The one stride of both axes that a depthwise convolution of Keras has; None where they differ."""
    (rows, columns), (high, wide) = pooling.strides, pooling.pool_size
    # Along an axis of one element any stride is the same.
    if shape[1] == high == 1:
        rows = columns
    elif shape[2] == wide == 1:
        columns = rows
    return int(rows) if rows == columns else None


def _filled(pooling: Any, shape: tuple[int | None, ...]) -> np.ndarray | None:
    """Which share of each window is inside of the image, (rows, columns); None where that is not known."""
    if pooling.padding == "valid":
        return np.ones((1, 1))
    if None in shape[1:3]:
        return None
    rows, columns = (
        _filled_along(int(size or 0), window, stride)
        for size, window, stride in zip(shape[1:3], pooling.pool_size, pooling.strides, strict=True)
    )
    return np.outer(rows, columns)


def _filled_along(size: int, window: int, stride: int) -> np.ndarray:
    """One axis of "same" padding: TensorFlow puts the smaller half of it in front."""
    results = -(-size // stride)
    before = max((results - 1) * stride + window - size, 0) // 2
    starts = np.arange(results) * stride - before
    inside = np.minimum(starts + window, size) - np.maximum(starts, 0)
    return inside / window


def _largest_on_grid(values: np.ndarray) -> float:
    """The upper end of a range from 0 whose steps come closest to all of some positive values.

    Of 3x3 windows they are 1, 3/2 and 9/4, which are whole steps where the largest has the code 252.
    """
    largest = float(values.max())

    def error(code: int) -> float:
        step = largest / code
        # The values are float32: what differs by less is equal.
        return round(float(np.max(np.abs(np.rint(values / step) * step / values - 1))), 6)

    best = min(LARGEST_CODES, key=error)
    return largest * CODES / best
