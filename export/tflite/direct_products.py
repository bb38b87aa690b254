"""Convolutions that Keras computes in a roundabout way, as one operation each for the TFLite converter.

Keras writes a dilated convolution as a convolution between SpaceToBatch and BatchToSpace. The converter (TensorFlow
2.21) makes one operation of the three, but not where two convolutions of one tensor have the same dilation (a gate of
WaveNet): it merges their SpaceToBatch first, and the convolutions stay in float.

Keras compiles a grouped convolution by itself, since TensorFlow's kernels on CPUs have no groups. What comes out of it
is no longer called after its layer, so that nobody finds the layer's kernel in the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers


@contextlib.contextmanager
def direct_products(model: tf_keras.Model) -> Iterator[None]:
    """Let dilated and grouped convolutions of a channels-last model call the operation itself, until the block ends.

    Only for tracing: TensorFlow's kernels on CPUs have no gradient of the ones and do not compute the others.
    """
    changed: list[tuple[Any, str]] = []
    try:
        for layer in model.submodules:
            kind = DIRECT.get(type(layer))
            if kind is None:
                continue
            attribute, direct = kind
            if max(layer.dilation_rate) > 1:
                setattr(layer, attribute, direct(layer))
                changed.append((layer, attribute))
            if layer.groups > 1:
                layer._jit_compiled_convolution_op = layer.convolution_op
                changed.append((layer, "_jit_compiled_convolution_op"))
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
