"""Networks of depthwise convolutions for 28x28 pictures, with random weights: `model.factory` of a configuration.

    mobilenet_v1    depthwise 3x3 and 1x1, with ReLU (Howard et al. 2017)
    mobilenet_v2    inverted residuals, expanded six times, with ReLU6 (Sandler et al. 2018)
    efficientnet    inverted residuals with squeeze and excite, and swish (Tan and Le 2019)

Each has the blocks of its paper's network at fewer filters and fewer strides: the pictures are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras
from tf_keras import layers

EXPANSION, SQUEEZE = 6, 4  # squeeze: a quarter of a block's input filters, as in EfficientNet
# Filters and strides of each block.
SEPARABLE = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (128, 1)]
INVERTED = [(8, 1), (16, 2), (16, 1), (24, 2), (24, 1), (32, 1), (32, 1)]
STEM, HEAD = 16, 128

Activation = Callable[[Any], Any]


def mobilenet_v1(*, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Return a chain of separable convolutions."""
    inputs = layers.Input(input_shape)
    x = _normalized(layers.Conv2D(STEM, 3, 1, "same", use_bias=False)(inputs), layers.ReLU)
    for filters, strides in SEPARABLE:
        x = _normalized(layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(x), layers.ReLU)
        x = _normalized(layers.Conv2D(filters, 1, use_bias=False)(x), layers.ReLU)
    return _headed(inputs, x, classes, name="mobilenet_v1")


def mobilenet_v2(*, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Return inverted residuals with linear bottlenecks."""
    return _inverted(input_shape, classes, activation=_relu6, excite=False, name="mobilenet_v2")


def efficientnet(*, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Return inverted residuals whose channels are weighted by what the whole picture holds."""
    return _inverted(input_shape, classes, activation=_swish, excite=True, name="efficientnet")


def _inverted(
    shape: tuple[int, int, int], classes: int, *, activation: Callable[[], Activation], excite: bool, name: str
) -> tf_keras.Model:
    inputs = layers.Input(shape)
    x = _normalized(layers.Conv2D(STEM, 3, 1, "same", use_bias=False)(inputs), activation)
    for filters, strides in INVERTED:
        before = x.shape[-1]
        y = _normalized(layers.Conv2D(EXPANSION * before, 1, use_bias=False)(x), activation)
        y = _normalized(layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(y), activation)
        y = _excited(y, before // SQUEEZE, activation) if excite else y
        y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if strides == 1 and filters == before else y
    x = _normalized(layers.Conv2D(HEAD, 1, use_bias=False)(x), activation)
    return _headed(inputs, x, classes, name=name)


def _excited(x: Any, squeezed: int, activation: Callable[[], Activation]) -> Any:
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = activation()(layers.Conv2D(squeezed, 1)(gate))
    return layers.Multiply()([x, layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)])


def _headed(inputs: Any, x: Any, classes: int, *, name: str) -> tf_keras.Model:
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, layers.Dense(classes, activation="softmax", name="probabilities")(x), name=name)


def _normalized(x: Any, activation: Callable[[], Activation]) -> Any:
    # The pipeline's trainings are a few thousand steps: with Keras' 0.99 the averages would still hold their start.
    return activation()(layers.BatchNormalization(momentum=0.9)(x))


def _relu6() -> Activation:
    return layers.ReLU(6.0)


def _swish() -> Activation:
    return layers.Activation("swish")
