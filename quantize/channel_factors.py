"""What the channels between two layers are divided by, so that all of them have a use of the 256 codes."""

from __future__ import annotations

import numpy as np

# A channel that is small on the calibration data may be larger on others, as far as its weights allow: the largest
# ratio of two factors, each as a share of what the weights of its channel can reach. Where the weights are what makes a
# channel small (a batch norm folded into them), nothing limits its factor.
LARGEST_RATIO = 16.0


def factors(largest: np.ndarray, weights: np.ndarray | None, reach: np.ndarray) -> np.ndarray:
    """Return what each channel is divided by.

    Args:
        largest: the largest value of each channel.
        weights: the largest weight that reads it, as a share of its output channel's largest; None: each has a scale
            of its own, so that its size costs nothing.
        reach: the largest value that it can have.
    """
    alive = largest > 0
    if weights is not None:
        alive &= weights > 0
    wished = np.ones(len(largest))
    wished[alive] = largest[alive] if weights is None else np.sqrt(largest[alive] / weights[alive])
    if not alive.any():
        return wished
    # What can be reached is not below what was seen, so above 0 wherever a channel is alive.
    least = reach * (wished[alive] / reach[alive]).max() / LARGEST_RATIO
    wished = np.maximum(wished, least)
    wished[~alive] = wished[alive].max()
    if weights is not None:
        # A dead channel's weights must not become the largest of all and set the scale of those that are needed.
        largest_weight = (wished * weights)[alive].max()
        with_weights = ~alive & (weights > 0)
        small_enough = np.minimum(wished, largest_weight / np.maximum(weights, np.finfo(np.float64).tiny))
        wished[with_weights] = np.maximum(small_enough, least)[with_weights]
    return np.asarray(wished / wished.max())


def reach_of(kernel: np.ndarray, bias: np.ndarray | None, *, axes: int, largest_input: float) -> np.ndarray:
    """Return the largest value that each output channel of a weighted layer can have.

    Args:
        axes: how many of the kernel's last axes count the channels: 2 of a depthwise kernel, else 1.
        largest_input: the largest value of what it reads.
    """
    sizes = np.abs(kernel.astype(np.float64)).reshape(-1, int(np.prod(kernel.shape[-axes:])))
    reach: np.ndarray = sizes.sum(axis=0) * largest_input
    return reach if bias is None else reach + np.abs(bias)


def read_shares(kernel: np.ndarray, *, one_scale: bool = False) -> np.ndarray:
    """Return the largest weight that reads each input channel, as a share of the largest of the same scale.

    Args:
        kernel: (..., inputs, outputs), of a dense layer or a convolution of one group; of a depthwise layer
            (..., channels, multiplier), where all weights have one scale.
        one_scale: of the whole kernel; else each output channel has a scale of its own.
    """
    largest = np.abs(kernel).reshape(-1, *kernel.shape[-2:]).max(axis=0)
    tops = largest.max() if one_scale else largest.max(axis=0)
    shares: np.ndarray = (largest / np.maximum(tops, np.finfo(np.float32).tiny)).max(axis=1)
    return shares


def made_shares(kernel: np.ndarray, *, axes: int) -> np.ndarray:
    """Return the largest weight of each output channel, as a share of the kernel's largest; `axes` as in `reach_of`."""
    largest = np.abs(kernel).reshape(-1, int(np.prod(kernel.shape[-axes:]))).max(axis=0)
    shares: np.ndarray = largest / np.maximum(largest.max(), np.finfo(np.float32).tiny)
    return shares


def divided(values: np.ndarray, divisors: np.ndarray, *, axes: int = 1) -> np.ndarray:
    """Return the kernel or bias of the layer that makes the channels, float32; `axes` as in `reach_of`."""
    made = values.reshape(*values.shape[: values.ndim - axes], -1) / divisors
    return np.asarray(made.reshape(values.shape), np.float32)


def multiplied(kernel: np.ndarray, divisors: np.ndarray) -> np.ndarray:
    """Return the kernel of the layer that reads the channels, float32; its last axis but one counts them."""
    return np.asarray(kernel * divisors[:, None], np.float32)
