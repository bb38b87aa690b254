"""The composite layers of the home model: ResidualUnit and SqueezeExcitation.

Both are plain Keras-2 layers made of standard layers and tensor operators. Nothing that quantizes or exports
them knows them by name.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

# `SAVED_AS` is part of every saved .keras file: a layer is found again as "edgeship>ResidualUnit".
SAVED_AS = "edgeship"


def _build_in_turn(parts: list[layers.Layer], shape: Any) -> Any:
    """Build layers one behind the other, each in its own name scope; returns the last output shape.

    Children must own their weights before `call()`: loading and cloning set weights by then. The scope keeps
    weight names unique, which the .h5 format needs.
    """
    for part in parts:
        with tf.name_scope(part.name):
            part.build(shape)
        shape = part.compute_output_shape(shape)
    return shape


@tf_keras.utils.register_keras_serializable(package=SAVED_AS)
class SqueezeExcitation(layers.Layer):
    """Recalibrates feature maps by what the whole image says about each channel.

    Global average pool -> dense(filters / ratio, relu) -> dense(filters, sigmoid) -> multiply
    (Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3). `filters / ratio` is rounded to a multiple of
    `divisor`, and is at least that: 1 is the paper, 8 is timm (layers/squeeze_excite.py).

    Input shape:
        `(batch, height, width, filters)`, float32.
    Output shape:
        The same.
    """

    def __init__(self, ratio: int = 16, *, divisor: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ratio = ratio
        self.divisor = divisor

    def build(self, input_shape: Any) -> None:
        filters = input_shape[-1]
        rounded = (filters // self.ratio + self.divisor // 2) // self.divisor * self.divisor
        self.squeeze = layers.GlobalAveragePooling2D(name=f"{self.name}_squeeze")
        self.reduce = layers.Dense(
            max(self.divisor, rounded), activation="relu", kernel_initializer="he_normal", name=f"{self.name}_reduce"
        )
        self.expand = layers.Dense(filters, activation="sigmoid", name=f"{self.name}_expand")
        self.spread = layers.Reshape((1, 1, filters), name=f"{self.name}_spread")
        _build_in_turn([self.squeeze, self.reduce, self.expand, self.spread], input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        weights = self.spread(self.expand(self.reduce(self.squeeze(inputs))))
        return inputs * weights

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ratio": self.ratio, "divisor": self.divisor}


@tf_keras.utils.register_keras_serializable(package=SAVED_AS)
class ResidualUnit(layers.Layer):
    """The basic block of ResNet-34: `activation(main(x) + skip(x))` (He et al. 2016, figure 5 left).

    The main path is conv 3x3, BN, activation, conv 3x3, BN, and squeeze-and-excitation where `se_ratio` > 0.
    The skip path is the identity, or conv 1x1 + BN where `strides` > 1.

    `padding` is "same", which pads a convolution of stride 2 over an even size on its far sides alone, or
    "symmetric", which pads both sides like PyTorch, in a layer of its own. At stride 1 they are the same.

    Input shape:
        `(batch, height, width, channels)`, float32; `channels == filters` unless `strides > 1`.
    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        activation: Any = "relu",
        *,
        se_ratio: int = 0,
        se_divisor: int = 1,
        padding: str = "same",
        batch_norm_momentum: float = 0.9,
        batch_norm_epsilon: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.activation = tf_keras.activations.get(activation)
        self.se_ratio = se_ratio
        self.se_divisor = se_divisor
        self.padding = padding
        self.batch_norm_momentum = batch_norm_momentum
        self.batch_norm_epsilon = batch_norm_epsilon
        explicit = padding == "symmetric" and strides > 1
        self.main_layers = [
            *([layers.ZeroPadding2D(1, name=f"{self.name}_pad1")] if explicit else []),
            self._conv(3, strides, "conv1", padding="valid" if explicit else "same"),
            self._batch_norm("bn1"),
            layers.Activation(activation, name=f"{self.name}_act1"),
            self._conv(3, 1, "conv2"),
            self._batch_norm("bn2"),
        ]
        if se_ratio:
            self.main_layers.append(SqueezeExcitation(se_ratio, divisor=se_divisor, name=f"{self.name}_se"))
        self.skip_layers = (
            [self._conv(1, strides, "skip_conv"), self._batch_norm("skip_bn")] if strides > 1 else []
        )

    def build(self, input_shape: Any) -> None:
        if not self.skip_layers and input_shape[-1] != self.filters:
            raise ValueError(
                f"{self.name}: the identity skip needs {self.filters} input channels (filters), "
                f"found {input_shape[-1]}; use strides > 1 where the number of filters changes"
            )
        _build_in_turn(self.main_layers, input_shape)
        _build_in_turn(self.skip_layers, input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        return self.activation(
            _call_in_turn(self.main_layers, inputs, training)
            + _call_in_turn(self.skip_layers, inputs, training)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = input_shape
        for part in self.main_layers:
            shape = part.compute_output_shape(shape)
        return shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "activation": tf_keras.activations.serialize(self.activation),
            "se_ratio": self.se_ratio,
            "se_divisor": self.se_divisor,
            "padding": self.padding,
            "batch_norm_momentum": self.batch_norm_momentum,
            "batch_norm_epsilon": self.batch_norm_epsilon,
        }

    def _conv(self, size: int, strides: int, name: str, *, padding: str = "same") -> layers.Layer:
        return layers.Conv2D(
            self.filters, size, strides=strides, padding=padding, use_bias=False,
            kernel_initializer="he_normal", name=f"{self.name}_{name}",
        )

    def _batch_norm(self, name: str) -> layers.Layer:
        return layers.BatchNormalization(
            momentum=self.batch_norm_momentum, epsilon=self.batch_norm_epsilon, name=f"{self.name}_{name}"
        )


def _call_in_turn(parts: list[layers.Layer], x: tf.Tensor, training: Any) -> tf.Tensor:
    for part in parts:
        x = part(x, training=training) if isinstance(part, layers.BatchNormalization) else part(x)
    return x
