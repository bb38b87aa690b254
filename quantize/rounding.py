"""Rounding that calibration data choose: each weight rounds up or down so that the layer's answers change least.

Nearest rounding is the best for a weight alone, not for the sum it is part of (Nagel et al. 2020, "Up or Down? Adaptive
Rounding for Post-Training Quantization", arXiv 2004.10568). Here weights are rounded one input after the other, and
what each loses is made good by the inputs that are still to be rounded (Frantar et al. 2022, "GPTQ", arXiv
2210.17323): a closed form with no training, of the second moments of the layer's inputs alone. The scales stay, and so
does the largest weight of a channel, which the scale is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.quantize.layerwise import Seen
from edgeship.quantize.weights import LARGEST_CODE

# Rows of inputs that are looked at, evenly spaced: several times as many as most layers have inputs per output.
MOST_ROWS = 16_384
# Added to the second moments, as a share of their mean: inputs that never differ on few examples have no inverse.
DAMPING = 0.01
# Of the largest weight in steps of the scale that it makes: two float32 roundings, with room.
LARGEST_ROUNDING = 2.0**-20

# A layer and its inputs -> what each of its products reads: (rows, groups, inputs of one group).
Rows = Callable[[Any, tf.Tensor], np.ndarray]


def round_by_answers(layer: Any, seen: Seen) -> None:
    """Set the kernel of a wrapped layer to numbers of its grid, chosen by what they do to its answers."""
    inner = layer.layer
    make = _ROWS.get(type(inner))
    if make is None:
        return
    quantizer = layer.quantize_config.quantizer
    kernel = layer.kernel_values
    moments = _moments(make, inner, seen)
    grouped = _grouped(kernel, inner)  # (groups, inputs, outputs of one group)
    steps = _steps(layer.kernel_scales.astype(np.float64), grouped)
    codes = rounded_codes(grouped / steps, moments, largest=LARGEST_CODE[quantizer.form.bits])
    layer.assign_kernel(_ungrouped(codes * steps, kernel.shape, inner).astype(np.float32))


def rounded_codes(weights: np.ndarray, moments: np.ndarray, *, largest: int) -> np.ndarray:
    """Return integers near `weights` with a small error of the answers, for no output above that of the nearest ones.

    Args:
        weights: (groups, inputs, outputs), in steps of their scales.
        moments: (groups, inputs, inputs), the mean of products of two inputs.
        largest: integers are within +-this; a weight that is this already stays.
    """
    groups, count, _ = weights.shape
    diagonal = np.arange(count)
    damped = moments.copy()
    mean = np.maximum(damped[:, diagonal, diagonal].mean(axis=1), np.finfo(np.float32).tiny)
    damped[:, diagonal, diagonal] += DAMPING * mean[:, None]
    codes = np.empty_like(weights)
    for group in range(groups):
        # Inputs that matter most first: what they lose can still be made good by all others.
        order = np.argsort(-damped[group, diagonal, diagonal], kind="stable")
        inverse = np.linalg.inv(damped[group][np.ix_(order, order)])
        factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
        left = weights[group, order].copy()
        fixed = np.abs(left) > largest * (1 - LARGEST_ROUNDING)
        for row in range(count):
            code = np.clip(np.rint(left[row]), -largest, largest)
            code = np.where(fixed[row], np.rint(weights[group, order[row]]), code)
            error = (left[row] - code) / factor[row, row]
            left[row:] -= factor[row, row:, None] * error
            codes[group, order[row]] = code
    nearest = np.clip(np.rint(weights), -largest, largest)
    # With few inputs there may be none left to make good what was lost.
    is_better = _errors(codes - weights, moments) < _errors(nearest - weights, moments)
    return np.where(is_better[:, None, :], codes, nearest)


def _steps(scales: np.ndarray, grouped: np.ndarray) -> np.ndarray:
    """(groups, 1, outputs of one group): the scale of every output, of a scale for each or of one for all."""
    groups, _, outputs = grouped.shape
    return np.broadcast_to(scales, groups * outputs).reshape(groups, 1, outputs)


def _errors(changes: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """(groups, outputs): the mean square of what changes of the weights do to each output."""
    return np.asarray(np.sum(changes * (moments @ changes), axis=1))


def _moments(make: Rows, layer: Any, seen: Seen) -> np.ndarray:
    """(groups, inputs, inputs): the mean of x x' over evenly spaced rows of all batches."""
    positions = math.prod(seen.wanted[0].shape[1:-1])
    stride = max(1, positions * sum(len(batch) for batch in seen.wanted) // MOST_ROWS)
    while math.gcd(stride, positions) > 1:
        stride += 1  # one that divides a picture evenly would see some of its columns only
    total, count = np.zeros(()), 0
    for inputs in seen.inputs:
        used = make(layer, inputs)[::stride].transpose(1, 2, 0)
        total, count = total + (used @ used.transpose(0, 2, 1)).astype(np.float64), count + used.shape[-1]
    return np.asarray(total / count)


def _convolution_rows(layer: Any, inputs: tf.Tensor) -> np.ndarray:
    """What each product of a convolution reads: (rows, groups, kernel height x width x channels of one group)."""
    height, width = layer.kernel_size
    patches = tf.image.extract_patches(
        inputs, (1, height, width, 1), (1, *layer.strides, 1), (1, *layer.dilation_rate, 1), layer.padding.upper()
    )
    groups = inputs.shape[-1] if isinstance(layer, layers.DepthwiseConv2D) else layer.groups
    values = tf.reshape(patches, (-1, height * width, groups, inputs.shape[-1] // groups)).numpy()
    return np.asarray(values.transpose(0, 2, 1, 3).reshape(len(values), groups, -1))


def _dense_rows(layer: Any, inputs: tf.Tensor) -> np.ndarray:
    return np.asarray(tf.reshape(inputs, (-1, 1, inputs.shape[-1])))


_ROWS: dict[type, Rows] = {
    layers.Conv2D: _convolution_rows, layers.DepthwiseConv2D: _convolution_rows, layers.Dense: _dense_rows,
}


def _grouped(kernel: np.ndarray, layer: Any) -> np.ndarray:
    """A kernel as (groups, inputs, outputs of one group), float64."""
    if isinstance(layer, layers.DepthwiseConv2D):
        height, width, channels, multiplier = kernel.shape
        return kernel.transpose(2, 0, 1, 3).reshape(channels, height * width, multiplier).astype(np.float64)
    groups = getattr(layer, "groups", 1)
    flat = kernel.reshape(-1, groups, kernel.shape[-1] // groups)
    return flat.transpose(1, 0, 2).astype(np.float64)


def _ungrouped(values: np.ndarray, shape: tuple[int, ...], layer: Any) -> np.ndarray:
    """The inverse of `_grouped`."""
    if isinstance(layer, layers.DepthwiseConv2D):
        height, width, channels, multiplier = shape
        return values.reshape(channels, height, width, multiplier).transpose(1, 2, 0, 3)
    return values.transpose(1, 0, 2).reshape(shape)
