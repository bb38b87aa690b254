"""Equalization: channels get ranges of one size, and the network stays what it is.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.1: a positive factor per channel passes through a ReLU, so the first layer's channel may be divided by what the second
one's weights of that channel are multiplied by. There the factors balance the weights of both layers. Here every
output channel has a scale of its own, so that the first layer's weights do not care, nor do a depthwise second layer's;
what has one scale is the activation between them. Its channels' largest values are balanced against the second layer's
weights, half and half (Xiao et al. 2022, "SmoothQuant", arXiv 2211.10438, with alpha 0.5); in front of depthwise
layers they become equal.

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
from edgeship.quantize.channel_groups import ChannelGroups, channel_groups, is_depthwise
from edgeship.quantize.channel_weights import kernel_of, layer_reach, scale
from edgeship.quantize.insert import QuantizedModel


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
    largest = _largest_shares(quantized, groups, batches)
    weights, reach = _weight_shares(groups), _reach(groups, largest)
    divisors = np.ones(groups.count)
    for own in sets:
        divisors[own] = _divisors(largest[own], weights[own], reach[own], is_fixed=groups.is_fixed[own])
    scale(groups.made, groups.read, divisors)
    return groups.sizes(divisors)


def _is_pair(groups: ChannelGroups, own: np.ndarray) -> bool:
    """Whether one layer makes these channels, and one reads them."""
    return all(len(users) == 1 for users in groups.users(own))


def _divisors(largest: np.ndarray, weights: np.ndarray, reach: np.ndarray, *, is_fixed: np.ndarray) -> np.ndarray:
    # A channel that only depthwise layers read may have weights of any size.
    has_weights = bool((weights > 0).any())
    found = factors(largest, np.where(weights > 0, weights, 1.0) if has_weights else None, reach)
    if is_fixed.any():
        found /= found[is_fixed].max()
        found[is_fixed] = 1.0
    return found


def _largest_shares(quantized: QuantizedModel, groups: ChannelGroups, batches: Sequence[Any]) -> np.ndarray:
    """The largest value of each group on a grid, as a share of the largest on that grid."""
    network = tf_keras.Model(quantized.model.inputs, [tensor for _, tensor, _ in groups.rounded])
    with quantized.in_float():
        seen = [_largest_values(network, batch) for batch in batches]
    largest = [np.max(values, axis=0) for values in zip(*seen, strict=True)]
    tops: dict[int, float] = {}
    for (item, _, _), values in zip(groups.rounded, largest, strict=True):
        tops[id(item)] = max(tops.get(id(item), 0.0), float(values.max()))
    found = np.zeros(groups.count)
    for (item, _, own), values in zip(groups.rounded, largest, strict=True):
        np.maximum.at(found, own, values / (tops[id(item)] or 1.0))
    return found


def _largest_values(network: tf_keras.Model, batch: Any) -> list[np.ndarray]:
    answers = network(batch, training=False)
    tensors = answers if isinstance(answers, list) else [answers]
    return [np.abs(tensor.numpy()).reshape(-1, tensor.shape[-1]).max(axis=0) for tensor in tensors]


def _weight_shares(groups: ChannelGroups) -> np.ndarray:
    """The largest weight that reads each group, as a share of its output channel's largest.

    0 where only depthwise layers read it.
    """
    found = np.zeros(groups.count)
    for layer, own in groups.read.items():
        if not is_depthwise(layer):
            np.maximum.at(found, own, read_shares(kernel_of(layer)))
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
