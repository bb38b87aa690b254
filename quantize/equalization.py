"""Equalization: the channels between two layers get ranges of one size, and the network stays what it is.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.1: a positive factor per channel passes through a ReLU, so the first layer's channel may be divided by what the second
one's weights of that channel are multiplied by. There the factors balance the weights of both layers. Here every
output channel has a scale of its own, so that the first layer's weights do not care, nor do a depthwise second layer's;
what has one scale is the activation between them. Its channels' largest values are balanced against the second layer's
weights, half and half (Xiao et al. 2022, "SmoothQuant", arXiv 2211.10438, with alpha 0.5); in front of a depthwise
layer they become equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.core.layer_names import wrapper_name
from edgeship.model.keras2 import read_by
from edgeship.quantize.channel_factors import divided, factors, multiplied, reach_of, read_shares
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.ranges import Range
from edgeship.quantize.simplifying.rebuild import maker_through, readers_of
from edgeship.quantize.simplifying.rewrites import is_relu, weights_of


@dataclass(frozen=True, eq=False)
class Pair:
    """Two weighted layers with nothing but a ReLU and a range between them, and the tensor that the second reads."""

    first: Any
    second: Any
    between: Any


def equalize(quantized: QuantizedModel, batches: Sequence[Any]) -> int:
    """Equalize every pair of layers; ranges must be found again afterwards.

    Args:
        batches: preprocessed examples, float32.

    Returns:
        How many pairs there were.
    """
    pairs = list(_pairs(quantized))
    if not pairs:
        return 0
    between = [pair.between for pair in pairs]
    read = [read_by(pair.first.inbound_nodes[0])[0] for pair in pairs]
    network = tf_keras.Model(quantized.model.inputs, between + read)
    with quantized.in_float():
        seen = [_largest_values(network, batch) for batch in batches]
    largest = [np.max(values, axis=0) for values in zip(*seen, strict=True)]
    for pair, values, inputs in zip(pairs, largest[: len(pairs)], largest[len(pairs) :], strict=True):
        _scale(pair, factors(values, _weights_per_input(pair.second), _reach(pair.first, float(inputs.max()))))
    return len(pairs)


def _largest_values(network: tf_keras.Model, batch: Any) -> list[np.ndarray]:
    answers = network(batch, training=False)
    tensors = answers if isinstance(answers, list) else [answers]
    return [np.abs(tensor.numpy()).reshape(-1, tensor.shape[-1]).max(axis=0) for tensor in tensors]


def _pairs(quantized: QuantizedModel) -> Iterator[Pair]:
    readers = readers_of(quantized.model)
    wrapped = {wrapper_name(name) for name in quantized.weights}
    for name in quantized.weights:
        second = quantized.model.get_layer(wrapper_name(name))
        if len(second.inbound_nodes) != 1 or not _reads_by_channel(second.layer):
            continue
        between = read_by(second.inbound_nodes[0])[0]
        first = maker_through(between, readers, _passes)
        if first is not None and first.name in wrapped and len(first.inbound_nodes) == 1:
            yield Pair(first, second, between)


def _reads_by_channel(layer: Any) -> bool:
    if isinstance(layer, layers.DepthwiseConv2D):
        return True
    return isinstance(layer, layers.Dense) or (isinstance(layer, layers.Conv2D) and layer.groups == 1)


def _passes(layer: Any, result: Any) -> bool:
    """Return whether a layer is a range of its own or a ReLU without an upper end."""
    own = isinstance(layer, Range) and layer.members == 1 and layer.cap is None and not layer.fixed
    return own or is_relu(layer, without_end=True)


def _weights_per_input(layer: Any) -> np.ndarray | None:
    if isinstance(layer.layer, layers.DepthwiseConv2D):
        return None
    return read_shares(layer.kernel_values)


def _axes(layer: Any) -> int:
    return len(weights_of[type(layer.layer)].output_axes)


def _reach(layer: Any, largest_input: float) -> np.ndarray:
    bias = layer.layer.bias.numpy() if layer.layer.use_bias else None
    return reach_of(layer.kernel_values, bias, axes=_axes(layer), largest_input=largest_input)


def _scale(pair: Pair, divisors: np.ndarray) -> None:
    first, second = pair.first, pair.second
    first.assign_kernel(divided(first.kernel_values, divisors, axes=_axes(first)))
    if first.layer.use_bias:
        first.layer.bias.assign(divided(first.layer.bias.numpy(), divisors))
    second.assign_kernel(multiplied(second.kernel_values, divisors))
