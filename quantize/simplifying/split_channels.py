"""Scalings and shifts of channels that a reshape has split, in front of the reshape, where a product can take them up.

Attention splits the channels of a dense layer into heads, and adds the bias and divides by a root behind that. In front
of the reshape both are numbers for each channel, and become part of the dense layer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import calls_of, node_of, read_by
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, readers_of, rebuild

ARRAYS = (flat_layers.ArrayScale, flat_layers.ArrayShift, flat_layers.ChannelScale, flat_layers.ChannelShift)


def with_whole_channels(model: tf_keras.Model) -> tf_keras.Model:
    """Return the network with such layers in front of the reshapes; the model itself where there are none."""
    while pairs := _pairs(model):
        model = _turned(model, pairs)
    return model


def _pairs(model: tf_keras.Model) -> dict[int, Any]:
    """Return by the id of a reshape's node the node behind it that is to be in front of it."""
    readers = readers_of(model)
    found: dict[int, Any] = {}
    for node in nodes_of(model):
        if type(node.layer) not in (*ARRAYS, layers.Rescaling):
            continue
        before = node_of(read_by(node)[0])
        if type(before.layer) is not layers.Reshape or readers[id(before.outputs)] != [node]:
            continue
        is_once = len(calls_of(before.layer)) == len(calls_of(node.layer)) == 1
        if is_once and _in_front(node.layer, read_by(before)[0].shape, before.outputs.shape) is not None:
            found[id(before)] = node
    return found


def _turned(model: tf_keras.Model, pairs: dict[int, Any]) -> tf_keras.Model:
    copies = Copies()
    reshapes = {id(node): reshape for reshape, node in pairs.items()}
    waiting: dict[int, Any] = {}  # id of a reshape's node -> that node

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        if id(node) in pairs:
            waiting[id(node)] = node
            return args[0]
        if id(node) not in reshapes:
            return call(copies, node.layer, args, kwargs)
        reshape = waiting[reshapes[id(node)]]
        made = _in_front(node.layer, args[0].shape, reshape.outputs.shape)
        scaled = made(args[0])
        if node.layer.weights:
            made.set_weights([weight.reshape(made.weights[0].shape) for weight in node.layer.get_weights()])
            made.trainable = node.layer.trainable
        return call(copies, reshape.layer, (scaled,), {})

    turned = rebuild(model, replay)
    turned.output_names = model.output_names
    return turned


def _in_front(layer: Any, before: Any, after: Any) -> Any:
    """Return the layer that does in front of a reshape what one does behind it; None where the axes do not fit.

    Args:
        before, after: the shapes in front of the reshape and behind it.
    """
    channels = before[-1]
    split = next((at for at in range(1, after.rank) if None not in after[at:] and math.prod(after[at:]) == channels), 0)
    if not split or channels is None or before.rank < 2:
        return None
    if type(layer) is layers.Rescaling:
        is_number = np.size(layer.scale) == np.size(layer.offset) == 1
        return layers.Rescaling(layer.scale, layer.offset, name=layer.name) if is_number else None
    array = np.asarray(layer.array())
    if array.ndim > after.rank - split and any(size != 1 for size in array.shape[: array.ndim - (after.rank - split)]):
        return None
    kind = flat_layers.ChannelScale if isinstance(layer, flat_layers.ArrayScale) else flat_layers.ChannelShift
    options = {"negative": layer.negative} if kind is flat_layers.ChannelShift else {}
    if layer.values is None:
        is_whole = array.size == channels
        return kind(shape=(channels,), name=layer.name, **options) if is_whole else None
    shape = array.shape[max(array.ndim - (after.rank - split), 0) :]
    whole = np.broadcast_to(array.reshape(shape), tuple(after[split:])).reshape(-1)
    return kind(values=whole, name=layer.name, **options)
