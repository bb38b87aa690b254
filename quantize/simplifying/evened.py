"""Channels whose sizes differ so much that a scale for all of them would lose some, made even by their weights alone.

A factor per channel changes nothing in float (edgeship/quantize/equalization.py): the layer that makes the channel is
divided by it, the weights that read the channel are multiplied by it, and where channels are added, joined or read by
several layers, all of these take part (edgeship/quantize/channel_groups.py). Batch norms that are folded into a layer
can make its channels differ by orders of magnitude, and the weights behind it by as much the other way round. In float
nobody sees it. The tensor between them has one scale, so that small channels get a few of its 256 codes, or none. The
equalization of `int8-ptq-best` balances all channels, by what they are on the calibration data, and is kept where it
helps. Here only what no scale can hold is touched, in every integer scheme and before anything is trained.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.core.channel_sizes import Sizes
from edgeship.quantize.channel_factors import factors, read_shares
from edgeship.quantize.channel_groups import Uses, channel_groups, is_depthwise
from edgeship.quantize.channel_weights import kernel_of, layer_reach, scale

# A channel with a 64th of the largest one's reach has four of 256 codes. Where it counts behind the next layer as much
# as a 64th of the one that counts most, its rounding is heard there.
LOST_BELOW = 1 / 64
MAKERS = (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D)


@dataclass(frozen=True, kw_only=True)
class Evened:
    """What was made even."""

    layers: tuple[str, ...]  # those that make the channels
    sizes: Sizes  # what each result's channels were divided by


def even_channels(model: tf_keras.Model, *, kept: Collection[str], one_scale: bool = False) -> Evened:
    """Make the channels even, in place, where some would be lost; the answers stay bit for bit.

    Args:
        model: a simplified network with weights of its own.
        kept: names of layers that stay in float, which are left as they are.
        one_scale: whether each kernel has one scale; else each of its output channels has one.
    """
    weighted = [layer.name for layer in model.layers if type(layer) in MAKERS and layer.name not in kept]
    groups = channel_groups(model, weighted)
    divisors = np.ones(groups.count)
    # From the output to the input: how much a channel counts behind a depthwise layer is seen once what that one makes
    # is even.
    for own in reversed(list(groups.made_together())):
        makers, readers = groups.users(own)
        if groups.is_fixed[own].any() or not readers:
            continue
        reach, weights = _reach(makers, groups.count), _weight_shares(readers, groups.count, one_scale)
        has_scales = not one_scale and all(map(is_depthwise, readers))  # so that weights of any size cost nothing
        found = np.ones(groups.count)
        found[own] = _divisors(reach[own], weights[own], has_scales=has_scales)
        if (found != 1).any():
            scale(makers, readers, found)
            divisors *= found
    evened = tuple(layer.name for layer, own in groups.made.items() if (divisors[own] != 1).any())
    return Evened(layers=evened, sizes=groups.sizes(divisors))


def _divisors(reach: np.ndarray, weights: np.ndarray, *, has_scales: bool) -> np.ndarray:
    """Powers of two, so that no product is rounded otherwise; 1 for all where no channel would be lost."""
    if not _loses(reach, weights):
        return np.ones(len(reach))
    found = factors(reach, None if has_scales else weights, reach)
    return np.asarray(np.exp2(np.rint(np.log2(found))))


def _loses(reach: np.ndarray, weights: np.ndarray) -> bool:
    counts = reach * weights
    return bool(np.any((reach < reach.max() * LOST_BELOW) & (counts > counts.max() * LOST_BELOW)))


def _reach(makers: Uses, count: int) -> np.ndarray:
    """The largest value that each group can have, as a share of the largest that its layer can make."""
    found = np.zeros(count)
    for layer, own in makers.items():
        reach = layer_reach(layer)
        np.maximum.at(found, own, reach / (reach.max() or 1.0))
    return found


def _weight_shares(readers: Uses, count: int, one_scale: bool) -> np.ndarray:
    """How much of each group is read: beside others by a kernel, behind a depthwise layer on the grid of its result."""
    found = np.zeros(count)
    for layer, own in readers.items():
        kernel = kernel_of(layer)
        if is_depthwise(layer):
            sizes = np.abs(kernel).sum(axis=(0, 1)).max(axis=-1)
            shares = sizes / (sizes.max() or 1.0)
        else:
            shares = read_shares(kernel, one_scale=one_scale)
        np.maximum.at(found, own, shares)
    return found
