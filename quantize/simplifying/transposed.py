"""A transposed convolution as an ordinary one followed by a rearrangement of pixels.

Neither ONNX Runtime nor LiteRT's converter has what a transposed convolution needs (an integer kernel, a scale per
output channel). With stride s each of the s x s phases of the output is an ordinary convolution of the input by the
kernel's taps of that phase (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"), so
one convolution with s * s times the channels computes all phases, and depth-to-space interleaves them. Strides that
differ by axis are interleaved by a transpose, and a dilated kernel is one with zeros between its taps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model.flat_layers import DepthToSpace


@dataclass(frozen=True)
class SubPixel:
    """The replacement's builder, and the weights of its convolution."""

    build: Callable[..., Any]
    weights: list[np.ndarray]


@dataclass(frozen=True)
class Axis:
    """One spatial axis: y[s q + p] = sum over t of x[q - t] w[s t + p + before], for taps that exist."""

    size: int  # of the input
    kernel: int  # with the zeros of a dilation
    stride: int
    result: int  # Keras' size of the result
    same: bool

    @property
    def before(self) -> int:
        """How much of the full result "same" cuts off in front: half of what is too much."""
        return max((self.size - 1) * self.stride + self.kernel - self.result, 0) // 2 if self.same else 0

    @property
    def taps(self) -> tuple[int, int]:
        """The smallest and the largest t of any phase."""
        return -((self.stride - 1 + self.before) // self.stride), (self.kernel - 1 - self.before) // self.stride

    @property
    def padding(self) -> tuple[int, int]:
        """Negative behind: what is cut off there."""
        low, high = self.taps
        positions = -(-self.result // self.stride)
        return high, positions - self.size - low

    @property
    def crop(self) -> int:
        return -(-self.result // self.stride) * self.stride - self.result


def sub_pixel(layer: Any) -> SubPixel | None:
    """The replacement of a Conv2DTranspose with linear activation; None where the size of its input is not known."""
    shape = layer.get_input_at(0).shape
    if None in shape[1:3]:
        return None
    result = layer.compute_output_shape(shape)
    kernel, *bias = layer.get_weights()
    kernel = _dilated(kernel, layer.dilation_rate)
    rows, columns = (
        Axis(int(shape[axis + 1]), kernel.shape[axis], layer.strides[axis], int(result[axis + 1]),
             layer.padding == "same")
        for axis in (0, 1)
    )
    folded = _kernel(kernel, rows, columns)
    size = folded.shape[:2]

    def build(parts: Any, tensor: Any) -> Any:
        paddings: tuple[tuple[int, int], ...] = (rows.padding, columns.padding)
        if any(after < 0 for _, after in paddings):
            cut = tuple((0, max(-after, 0)) for _, after in paddings)
            tensor = parts.layer("cut", layers.Cropping2D, cut)(tensor)
            paddings = tuple((before, max(after, 0)) for before, after in paddings)
        if any(map(any, paddings)):
            tensor = parts.layer("pad", layers.ZeroPadding2D, paddings)(tensor)
        tensor = parts.layer("", layers.Conv2D, folded.shape[3], size, use_bias=bool(bias))(tensor)
        tensor = _interleaved(parts, tensor, rows.stride, columns.stride)
        if rows.crop or columns.crop:
            tensor = parts.layer("crop", layers.Cropping2D, ((0, rows.crop), (0, columns.crop)))(tensor)
        return tensor

    return SubPixel(build, [folded, *(np.tile(values, rows.stride * columns.stride) for values in bias)])


def _interleaved(parts: Any, tensor: Any, rows: int, columns: int) -> Any:
    """(b, h, w, rows * columns * c) -> (b, h * rows, w * columns, c)."""
    if rows == columns:
        return parts.layer("phases", DepthToSpace, rows)(tensor) if rows > 1 else tensor
    height, width, channels = tensor.shape[1:]
    result = (height * rows, width * columns, channels // (rows * columns))
    if rows > 1:
        # The phases of the columns lie beside each other already; those of the rows go beside the rows.
        tensor = parts.layer("phases", layers.Reshape, (height, width, rows, channels // rows))(tensor)
        tensor = parts.layer("interleaved", layers.Permute, (1, 3, 2, 4))(tensor)
    return parts.layer("joined", layers.Reshape, result)(tensor)


def _dilated(kernel: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """The kernel with zeros between its taps."""
    if max(dilation) == 1:
        return kernel
    sizes = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation, strict=True)]
    wide = np.zeros((*sizes, *kernel.shape[2:]), kernel.dtype)
    wide[:: dilation[0], :: dilation[1]] = kernel
    return wide


def _kernel(kernel: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """(kh, kw, out, in) of the transposed convolution -> (h, w, in, rows * columns * out) of the ordinary one."""
    _, _, filters, channels = kernel.shape
    sizes = [high - low + 1 for low, high in (rows.taps, columns.taps)]
    result = np.zeros((*sizes, channels, rows.stride, columns.stride, filters), np.float32)
    for m, p in _taps(rows):
        for n, q in _taps(columns):
            result[m, n, :, p, q, :] = kernel[_source(rows, m, p), _source(columns, n, q)].T
    return result.reshape(*sizes, channels, rows.stride * columns.stride * filters)


def _taps(axis: Axis) -> list[tuple[int, int]]:
    """(position in the ordinary kernel, phase) of every tap that exists."""
    low, high = axis.taps
    return [
        (m, phase) for m in range(high - low + 1) for phase in range(axis.stride)
        if 0 <= _source(axis, m, phase) < axis.kernel
    ]


def _source(axis: Axis, position: int, phase: int) -> int:
    """The index in the transposed kernel of tap t = high - position."""
    return axis.stride * (axis.taps[1] - position) + phase + axis.before
