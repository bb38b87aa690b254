"""Dilated convolutions as one operation each, for the TFLite converter.

Keras writes a dilated convolution as a convolution between SpaceToBatch and BatchToSpace. The converter (TensorFlow
2.21) makes one operation of the three, but not where two convolutions of one tensor have the same dilation (a gate of
WaveNet): it merges their SpaceToBatch first, and the convolutions stay in float.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers


@contextlib.contextmanager
def direct_dilations(model: tf_keras.Model) -> Iterator[None]:
    """Let the dilated convolutions of a channels-last model call the operation itself, until the block ends.

    Only for tracing: TensorFlow's kernels on CPUs have no gradient of it.
    """
    changed: list[tuple[Any, str]] = []
    try:
        for layer in model.submodules:
            kind = DIRECT.get(type(layer))
            # Grouped convolutions are compiled by Keras, once for all calls.
            if kind is None or max(layer.dilation_rate) == 1 or layer.groups > 1:
                continue
            attribute, direct = kind
            setattr(layer, attribute, direct(layer))
            changed.append((layer, attribute))
        yield
    finally:
        for layer, attribute in changed:
            delattr(layer, attribute)


def _convolution(layer: Any) -> Callable[..., Any]:
    """What stands for `Conv2D.convolution_op`."""
    return lambda inputs, kernel: tf.nn.conv2d(
        inputs, kernel, strides=1, padding=layer.padding.upper(), dilations=list(layer.dilation_rate)
    )


def _depthwise(layer: Any) -> Callable[..., Any]:
    """What stands for `DepthwiseConv2D.call`."""

    def call(inputs: Any) -> Any:
        outputs = tf.raw_ops.DepthwiseConv2dNative(
            input=inputs, filter=layer.depthwise_kernel, strides=[1, 1, 1, 1], padding=layer.padding.upper(),
            dilations=[1, *layer.dilation_rate, 1],
        )
        outputs = tf.nn.bias_add(outputs, layer.bias) if layer.use_bias else outputs
        return outputs if layer.activation is None else layer.activation(outputs)

    return call


# Layer class -> the method that is replaced for one layer, and by what.
DIRECT: dict[type, tuple[str, Callable[[Any], Callable[..., Any]]]] = {
    layers.Conv2D: ("convolution_op", _convolution),
    layers.DepthwiseConv2D: ("call", _depthwise),
}
