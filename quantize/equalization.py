"""Equalization: channels get ranges of one size, and the network stays what it is.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.1: a positive factor per channel passes through a ReLU, so the first layer's channel may be divided by what the second
one's weights of that channel are multiplied by. There the factors balance the weights of both layers. Here every
output channel has a scale of its own, so that the first layer's weights do not care, nor do a depthwise second layer's;
what has one scale is the activation between them. Its channels' largest values are balanced against the second layer's
weights, half and half (Xiao et al. 2022, "SmoothQuant", arXiv 2211.10438, with alpha 0.5); in front of depthwise
layers they become equal.

Where a kernel has one scale, the first layer's weights count too: a channel is as large as its values or its weights
are, whichever is the larger share. A layer between two others is then changed by the factors on both sides, so the
factors are found in rounds, until they no longer change.

Where channels are added, joined or read by several layers, all that make or read them take part (channel_groups.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras

from edgeship.core.channel_sizes import Sizes
from edgeship.core.layer_names import wrapper_name
from edgeship.quantize.channel_factors import factors, read_shares
from edgeship.quantize.channel_groups import ChannelGroups, channel_groups, has_one_scale, has_scale_per_input
from edgeship.quantize.channel_weights import kernel_of, layer_reach, layer_shares, scale
from edgeship.quantize.insert import QuantizedModel

MOST_ROUNDS = 20  # of kernels with one scale
SETTLED = 1.01  # factors within a hundredth of 1 move no range by a hundredth of itself


def equalize(quantized: QuantizedModel, batches: Sequence[Any], *, jointly: bool = False) -> Sizes:
    """Equalize the channels between two layers, or all; ranges must be found again afterwards.

    Args:
        batches: preprocessed examples, float32.
        jointly: channels of several makers or readers too.

    Returns:
        What the channels of results were divided by; nothing where none takes a factor.
    """
    groups = channel_groups(quantized.model, [wrapper_name(name) for name in quantized.weights])
    sets = [own for own in groups.sets() if not groups.is_fixed[own].all() and (jointly or _is_pair(groups, own))]
    if not sets:
        return {}
    largest = _largest_values(quantized, groups, batches)
    divisors = np.ones(groups.count)
    for _ in range(MOST_ROUNDS if any(map(has_one_scale, groups.made)) else 1):
        found = _round(groups, sets, [values / divisors[own] for own, values in largest])
        scale(groups.made, groups.read, found)
        divisors *= found
        if found.max() < SETTLED * found.min():
            break
    return groups.sizes(divisors)


def _round(groups: ChannelGroups, sets: Sequence[np.ndarray], largest: Sequence[np.ndarray]) -> np.ndarray:
    """Divisors of all groups, for the weights as they are; `largest` are the values in the order of `rounded`."""
    shares, weights = _largest_shares(groups, largest), _weight_shares(groups)
    reach = _reach(groups, shares)
    divisors = np.ones(groups.count)
    for own in sets:
        divisors[own] = _divisors(shares[own], weights[own], reach[own], is_fixed=groups.is_fixed[own])
    return divisors


def _is_pair(groups: ChannelGroups, own: np.ndarray) -> bool:
    """Whether one layer makes these channels, and one reads them."""
    return all(len(users) == 1 for users in groups.users(own))


def _divisors(largest: np.ndarray, weights: np.ndarray, reach: np.ndarray, *, is_fixed: np.ndarray) -> np.ndarray:
    # A channel all of whose readers have a scale for it alone may have weights of any size.
    has_weights = bool((weights > 0).any())
    found = factors(largest, np.where(weights > 0, weights, 1.0) if has_weights else None, reach)
    if is_fixed.any():
        found /= found[is_fixed].max()
        found[is_fixed] = 1.0
    return found


def _largest_shares(groups: ChannelGroups, largest: Sequence[np.ndarray]) -> np.ndarray:
    """The largest value of each group on a grid, or the largest weight that makes it, as a share of its scale's."""
    tops: dict[int, float] = {}
    for (item, _, _), values in zip(groups.rounded, largest, strict=True):
        tops[id(item)] = max(tops.get(id(item), 0.0), float(values.max()))
    found = np.zeros(groups.count)
    for (item, _, own), values in zip(groups.rounded, largest, strict=True):
        np.maximum.at(found, own, values / (tops[id(item)] or 1.0))
    for layer, own in groups.made.items():
        if has_one_scale(layer):
            np.maximum.at(found, own, layer_shares(layer))
    return found


def _largest_values(
    quantized: QuantizedModel, groups: ChannelGroups, batches: Sequence[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The groups and the largest values of the channels of each tensor on a grid."""
    network = tf_keras.Model(quantized.model.inputs, [tensor for _, tensor, _ in groups.rounded])
    with quantized.in_float():
        seen = [_of_batch(network, batch) for batch in batches]
    largest = [np.max(values, axis=0) for values in zip(*seen, strict=True)]
    return [(own, values) for (_, _, own), values in zip(groups.rounded, largest, strict=True)]


def _of_batch(network: tf_keras.Model, batch: Any) -> list[np.ndarray]:
    answers = network(batch, training=False)
    tensors = answers if isinstance(answers, list) else [answers]
    return [np.abs(tensor.numpy()).reshape(-1, tensor.shape[-1]).max(axis=0) for tensor in tensors]


def _weight_shares(groups: ChannelGroups) -> np.ndarray:
    """The largest weight that reads each group, as a share of the largest of its scale.

    0 where all readers have a scale for it alone.
    """
    found = np.zeros(groups.count)
    for layer, own in groups.read.items():
        if not has_scale_per_input(layer):
            np.maximum.at(found, own, read_shares(kernel_of(layer), one_scale=has_one_scale(layer)))
    return found


def _reach(groups: ChannelGroups, largest: np.ndarray) -> np.ndarray:
    """The largest value that each group can have, in the unit of `largest`, up to a factor per layer: at least that."""
    found: np.ndarray = np.maximum(largest, np.finfo(np.float32).tiny)
    for layer, own in groups.made.items():
        reach = layer_reach(layer)
        alive = reach > 0
        unit = float((largest[own][alive] / reach[alive]).max(initial=0.0))
        np.maximum.at(found, own, reach * unit)
    return found
