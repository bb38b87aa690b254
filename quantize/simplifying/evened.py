"""Channels whose sizes differ so much that a scale for all of them would lose some, made even by their weights alone.

Between two weighted layers, a factor per channel changes nothing in float (edgeship/quantize/equalization.py): the
first layer's channel is divided by it, the second one's weights of that channel are multiplied by it. Batch norms that
are folded into a layer can make its channels differ by orders of magnitude, and the weights behind it by as much the
other way round. In float nobody sees it. The tensor between them has one scale, so that small channels get a few of its
256 codes, or none. The equalization of `int8-ptq-best` balances all channels, by what they are on the calibration data,
and is kept where it helps. Here only what no scale can hold is touched, in every integer scheme and before anything is
trained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import node_of, read_by
from edgeship.quantize.channel_factors import divided, factors, multiplied, reach_of, read_shares
from edgeship.quantize.simplifying.rebuild import maker_through, nodes_of, readers_of
from edgeship.quantize.simplifying.rewrites import is_relu, weights_of

# A channel with a 64th of the largest one's reach has four of 256 codes. Where it counts behind the next layer as much
# as a 64th of the one that counts most, its rounding is heard there.
LOST_BELOW = 1 / 64
MAKERS = (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D)
# Layers that a positive factor per channel passes through.
PASSING = (layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D, layers.ZeroPadding2D)


def even_channels(model: tf_keras.Model, *, kept: Collection[str]) -> tuple[str, ...]:
    """Make the channels even, in place, where some would be lost; the answers stay bit for bit.

    Args:
        model: a simplified network with weights of its own.
        kept: names of layers that stay in float, which are left as they are.

    Returns:
        The names of the layers whose channels were made even.
    """
    evened = []
    for first, second in _pairs(model, kept):
        (kernel, *bias), (read, *others) = first.get_weights(), second.get_weights()
        axes = len(weights_of[type(first)].output_axes)
        reach = reach_of(kernel, bias[0] if bias else None, axes=axes, largest_input=1.0)
        weights = read_shares(read)
        if not _loses(reach, weights):
            continue
        # Powers of two, so that no product is rounded otherwise.
        divisors = np.exp2(np.rint(np.log2(factors(reach, weights, reach))))
        first.set_weights([divided(kernel, divisors, axes=axes), *(divided(values, divisors) for values in bias)])
        second.set_weights([multiplied(read, divisors), *others])
        evened.append(first.name)
    return tuple(evened)


def _loses(reach: np.ndarray, weights: np.ndarray) -> bool:
    counts = reach * weights
    return bool(np.any((reach < reach.max() * LOST_BELOW) & (counts > counts.max() * LOST_BELOW)))


def _pairs(model: tf_keras.Model, kept: Collection[str]) -> Iterator[tuple[Any, Any]]:
    """Yield each two weighted layers between which a factor per channel can be moved, in the order of the network."""
    readers = readers_of(model)
    for node in nodes_of(model):
        second = node.layer
        by_channel = type(second) is layers.Dense or (type(second) is layers.Conv2D and second.groups == 1)
        if not by_channel or len(second.inbound_nodes) != 1 or second.name in kept:
            continue
        first = maker_through(read_by(node)[0], readers, _passes)
        if type(first) in MAKERS and len(first.inbound_nodes) == 1 and first.name not in kept:
            yield first, second


def _passes(layer: Any, result: Any) -> bool:
    """Return whether a positive factor per channel (the last axis) comes out of a layer as it went in."""
    # Channels lie side by side in memory: a last axis of the same size is the same channels.
    if isinstance(layer, (layers.Reshape, layers.Flatten)):
        return bool(read_by(node_of(result))[0].shape[-1] == result.shape[-1])
    return isinstance(layer, PASSING) or is_relu(layer, without_end=True)
