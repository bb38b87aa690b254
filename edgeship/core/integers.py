"""From real numbers to an artifact's integers and back: q = round(x / scale) + zero_point.

A tensor with a zero point 128 higher in uint8 than in int8 is the same tensor on the same grid, so integers
of different artifacts are compared after their zero points are subtracted.
"""

from __future__ import annotations

import math

import numpy as np

from edgeship.core.artifact import TensorSpec

UINT8_SHIFT = 128  # on one grid a uint8 tensor holds q + 128 where an int8 tensor holds q
SHIFTS = {"int8": 0, "uint8": UINT8_SHIFT}


def quantize(values: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Values of any shape -> `spec.dtype`, the same shape; a tensor without a scale keeps its values.

    Halves are rounded to even (numpy and ONNX do; Jacob et al., CVPR 2018, leave ties open), and what does
    not fit is clipped to the ends of the range.
    """
    if spec.scale is None or spec.zero_point is None:
        return values.astype(spec.dtype, copy=False)
    limits = np.iinfo(spec.dtype)
    integers = np.rint(values / np.float32(spec.scale)) + spec.zero_point
    quantized: np.ndarray = np.clip(integers, limits.min, limits.max).astype(spec.dtype)
    return quantized


def dequantize(integers: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """`spec.dtype` of any shape -> float32, the same shape."""
    if spec.scale is None:
        return integers.astype(np.float32, copy=False)
    return (np.float32(spec.scale) * grid_steps(integers, spec)).astype(np.float32)


def grid_steps(integers: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """q - zero_point: equal for the same tensor in int8 and in uint8. Integer tensors only.

    int16 for 8-bit integers (differences of two still fit, and a large test set takes half the memory), else
    int32.
    """
    if spec.zero_point is None:
        raise ValueError(f"{spec.name}: a float tensor has no grid steps")
    wide: np.ndarray = integers.astype(np.int16 if integers.dtype.itemsize == 1 else np.int32)
    wide -= spec.zero_point
    return wide


def is_integer(spec: TensorSpec) -> bool:
    """Whether the tensor holds quantized integers."""
    return spec.scale is not None and spec.zero_point is not None


def sqnr_db(signal: np.ndarray, approximation: np.ndarray, *, resolution: float = 0.0) -> float | None:
    """10 log10(sum signal^2 / sum (signal - approximation)^2) in dB, over all elements.

    None where it is not finite: equal arrays (the maximal error, 0, then says so), or a signal of zeros.

    Args:
        resolution: a difference of at most this is none.
    """
    exact = signal.astype(np.float64)
    power = float(np.sum(exact**2))
    differences = exact - approximation.astype(np.float64)
    noise = float(np.sum(differences[np.abs(differences) > resolution] ** 2))
    return 10 * math.log10(power / noise) if power > 0 and noise > 0 else None
