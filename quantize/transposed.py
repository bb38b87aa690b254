"""A transposed convolution as an ordinary one followed by a rearrangement of pixels.

Neither ONNX Runtime nor LiteRT's converter has what a transposed convolution needs (an integer kernel, a scale per
output channel). With stride s each of the s x s phases of the output is an ordinary convolution of the input by the
kernel's taps of that phase (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"), so
one convolution with s * s times the channels computes all phases, and depth-to-space interleaves them.
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
    kernel: int
    stride: int
    same: bool

    @property
    def before(self) -> int:
        """How much of the full result "same" cuts off in front."""
        return max(self.kernel - self.stride, 0) // 2 if self.same else 0

    @property
    def result(self) -> int:
        """Keras' size of the result: with "valid" a stride beyond the kernel leaves zeros at the end too."""
        return self.size * self.stride if self.same else self.stride * (self.size - 1) + max(self.kernel, self.stride)

    @property
    def taps(self) -> tuple[int, int]:
        """The smallest and the largest t of any phase."""
        return -((self.stride - 1 + self.before) // self.stride), (self.kernel - 1 - self.before) // self.stride

    @property
    def padding(self) -> tuple[int, int]:
        low, high = self.taps
        positions = -(-self.result // self.stride)
        return high, positions - self.size - low

    @property
    def crop(self) -> int:
        return -(-self.result // self.stride) * self.stride - self.result


def sub_pixel(layer: Any) -> SubPixel | None:
    """The replacement of a Conv2DTranspose with linear activation; None for a form that has none."""
    rows, columns = layer.strides
    shape = layer.get_input_at(0).shape
    if rows != columns or layer.output_padding is not None or max(layer.dilation_rate) > 1 or None in shape[1:3]:
        return None
    axes = [
        Axis(int(size), int(kernel), rows, layer.padding == "same")
        for size, kernel in zip(shape[1:3], layer.kernel_size, strict=True)
    ]
    kernel, *bias = layer.get_weights()
    folded = _kernel(kernel, *axes)
    size = folded.shape[:2]

    def build(parts: Any, tensor: Any) -> Any:
        padding = tuple(axis.padding for axis in axes)
        if any(map(any, padding)):
            tensor = parts.layer("pad", layers.ZeroPadding2D, padding)(tensor)
        tensor = parts.layer("", layers.Conv2D, folded.shape[3], size, use_bias=bool(bias))(tensor)
        if rows > 1:
            tensor = parts.layer("phases", DepthToSpace, rows)(tensor)
        if any(axis.crop for axis in axes):
            tensor = parts.layer("crop", layers.Cropping2D, tuple((0, axis.crop) for axis in axes))(tensor)
        return tensor

    return SubPixel(build, [folded, *(np.tile(values, rows * columns) for values in bias)])


def _kernel(kernel: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """(kh, kw, out, in) of the transposed convolution -> (h, w, in, s * s * out) of the ordinary one."""
    stride, (_, _, filters, channels) = rows.stride, kernel.shape
    sizes = [high - low + 1 for low, high in (rows.taps, columns.taps)]
    result = np.zeros((*sizes, channels, stride, stride, filters), np.float32)
    for m, p in _taps(rows):
        for n, q in _taps(columns):
            result[m, n, :, p, q, :] = kernel[_source(rows, m, p), _source(columns, n, q)].T
    return result.reshape(*sizes, channels, stride * stride * filters)


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
