"""The weights at both ends of channels: of the layers that make them, and of those that read them.

Layers are those of a simplified network, or the wrappers that round their kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeship.quantize.channel_factors import divided, made_shares, multiplied, reach_of
from edgeship.quantize.channel_groups import Uses, inner_of
from edgeship.quantize.simplifying.rewrites import weights_of


def kernel_of(layer: Any) -> np.ndarray:
    """Return the float kernel."""
    values: np.ndarray = layer.get_weights()[0] if inner_of(layer) is layer else layer.kernel_values
    return values


def layer_reach(layer: Any) -> np.ndarray:
    """Return the largest value that each channel can have that a layer makes, where its inputs reach 1."""
    inner = inner_of(layer)
    bias = inner.bias.numpy() if inner.use_bias else None
    return reach_of(kernel_of(layer), bias, axes=_axes(layer), largest_input=1.0)


def layer_shares(layer: Any) -> np.ndarray:
    """Return the largest weight that makes each channel, as a share of the kernel's largest."""
    return made_shares(kernel_of(layer), axes=_axes(layer))


def scale(makers: Uses, readers: Uses, divisors: np.ndarray) -> None:
    """Divide what layers make, and multiply the weights that read it, in place.

    Args:
        divisors: of each group of channels.
    """
    for layer, own in makers.items():
        if np.any(divisors[own] != 1):
            _assign_kernel(layer, divided(kernel_of(layer), divisors[own], axes=_axes(layer)))
            inner = inner_of(layer)
            if inner.use_bias:
                inner.bias.assign(divided(inner.bias.numpy(), divisors[own]))
    for layer, own in readers.items():
        if np.any(divisors[own] != 1):
            _assign_kernel(layer, multiplied(kernel_of(layer), divisors[own]))


def _assign_kernel(layer: Any, values: np.ndarray) -> None:
    if inner_of(layer) is layer:
        layer.set_weights([values, *layer.get_weights()[1:]])
    else:
        layer.assign_kernel(values)


def _axes(layer: Any) -> int:
    return len(weights_of[type(inner_of(layer))].output_axes)
