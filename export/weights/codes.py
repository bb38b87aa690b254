"""Float kernels in fewer bytes: int8 with one symmetric scale per output channel, or float16.

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference" (arXiv 1806.08342), section 3: weights
per channel, symmetric, the narrow range +-127, so that -128 is never met and a negated weight has its code too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeship.core.errors import ExportError

LARGEST_CODE = 127


@dataclass(frozen=True, eq=False, kw_only=True)
class PerChannel:
    """`codes` int8 as the kernel's shape, `scales` float32 of length shape[axis]; kernel ~ codes * scales."""

    codes: np.ndarray
    scales: np.ndarray


def quantize_per_channel(kernel: np.ndarray, *, axis: int, name: str) -> PerChannel:
    """A float32 kernel as int8 codes of +-127 with one scale for each index of `axis`; the zero point is 0.

    A channel of zeros gets the scale 1: its codes are 0 under any.

    Raises:
        ExportError: NaN or infinite weights; a channel so small that its scale is denormal.
    """
    others = tuple(index for index in range(kernel.ndim) if index != axis % kernel.ndim)
    largest = np.abs(kernel).max(axis=others)
    if not np.isfinite(largest).all():
        raise ExportError(f"{name}: expected finite weights, found NaN or infinity")
    one = np.float32(1)  # of a channel of zeros
    scales = np.where(largest > 0, largest / np.float32(LARGEST_CODE), one).astype(np.float32)
    if scales.min() < np.finfo(np.float32).tiny:
        smallest = largest[scales.argmin()]
        raise ExportError(
            f"{name}: a channel whose largest weight is {smallest:g} has no float32 scale; is the channel dead?"
        )
    shape = [1] * kernel.ndim
    shape[axis] = -1
    codes = np.rint(kernel / scales.reshape(shape))
    return PerChannel(codes=np.clip(codes, -LARGEST_CODE, LARGEST_CODE).astype(np.int8), scales=scales)


def as_float16(kernel: np.ndarray, *, name: str) -> np.ndarray:
    """A float32 kernel in float16, rounded to nearest even.

    Raises:
        ExportError: a weight beyond float16's largest number, 65504, or NaN.
    """
    with np.errstate(over="ignore"):
        half = kernel.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(
            f"{name}: expected weights within +-65504, which float16 can hold, found {np.abs(kernel).max():g}"
        )
    return half
