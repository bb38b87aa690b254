"""Small networks of sequences and vectors: sounds, heart beats, machines; random weights.

`SEQUENCES` maps a name to a function without arguments that makes the model; `build` fits its batch norms. Inputs are
`(time, features)` or `(features,)`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_keras
from tf_keras import layers

FITTED_EXAMPLES = 64

def _norm_relu(x, name):
    return layers.ReLU(name=f"{name}_act")(layers.BatchNormalization(name=f"{name}_norm")(x))


def wake_word(steps=32, features=40, classes=3):
    """Depthwise separable convolutions over time, as the streaming wake word network of MLPerf Tiny has them."""
    sound = layers.Input((steps, features), name="sound")
    x = _norm_relu(layers.Conv1D(64, 3, strides=2, use_bias=False, name="stem")(sound), "stem")
    for index, (filters, kernel, strides) in enumerate([(64, 5, 1), (96, 5, 1), (96, 3, 2), (64, 3, 1)]):
        x = _norm_relu(
            layers.DepthwiseConv1D(kernel, strides, "same", use_bias=False, name=f"depthwise{index}")(x),
            f"depthwise{index}",
        )
        x = _norm_relu(layers.Conv1D(filters, 1, use_bias=False, name=f"pointwise{index}")(x), f"pointwise{index}")
    x = layers.Dropout(0.2, name="dropout")(layers.GlobalAveragePooling1D(name="pool")(x))
    return tf_keras.Model(sound, layers.Dense(classes, activation="softmax", name="word")(x), name="wake_word")


class TemporalBlock(layers.Layer):
    """Two causal dilated convolutions and a shortcut (Bai et al. 2018)."""

    def __init__(self, filters, dilation, **kwargs):
        super().__init__(**kwargs)
        options = {"padding": "causal", "dilation_rate": dilation}
        self.first, self.second = (layers.Conv1D(filters, 3, activation="relu", **options) for _ in range(2))
        self.dropout, self.filters, self.shortcut = layers.SpatialDropout1D(0.1), filters, None

    def build(self, shape):
        if shape[-1] != self.filters:
            self.shortcut = layers.Conv1D(self.filters, 1)
        super().build(shape)

    def call(self, x, training=None):
        y = self.dropout(self.second(self.first(x)), training=training)
        return tf_keras.activations.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def temporal(steps=48, features=6):
    """A temporal convolutional network: an answer for every step."""
    x = signal = layers.Input((steps, features), name="signal")
    for index in range(4):
        x = TemporalBlock(16, 2**index, name=f"block{index}")(x)
    return tf_keras.Model(signal, layers.Dense(2, name="forecast")(x), name="temporal")


def heart(steps=256, classes=5):
    """A residual network of one channel, with pooled shortcuts."""
    beat = layers.Input((steps, 1), name="beat")
    x = _norm_relu(layers.Conv1D(16, 7, 2, "same", use_bias=False, name="stem")(beat), "stem")
    x = layers.MaxPooling1D(3, 2, "same", name="pool")(x)
    for index, (filters, strides) in enumerate([(16, 1), (24, 2), (32, 2)]):
        name = f"unit{index}"
        y = _norm_relu(layers.Conv1D(filters, 5, strides, "same", use_bias=False, name=f"{name}_a")(x), f"{name}_a")
        y = layers.Conv1D(filters, 5, padding="same", use_bias=False, name=f"{name}_b")(y)
        y = layers.BatchNormalization(name=f"{name}_b_norm")(y)
        if strides > 1:
            x = layers.AveragePooling1D(strides, name=f"{name}_shrunk")(x)
            x = layers.Conv1D(filters, 1, name=f"{name}_wide")(x)
        x = layers.ReLU(name=f"{name}_act")(layers.Add(name=f"{name}_sum")([x, y]))
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return tf_keras.Model(beat, layers.Dense(classes, name="logits")(x), name="heart")


def autoencoder(size=640, wide=128, narrow=8):
    """Dense layers with batch norms, as the anomaly detection network of MLPerf Tiny has them."""
    x = machine = layers.Input((size,), name="machine")
    for index, units in enumerate([wide] * 4 + [narrow] + [wide] * 4):
        x = _norm_relu(layers.Dense(units, name=f"dense{index}")(x), f"dense{index}")
    return tf_keras.Model(machine, layers.Dense(size, name="again")(x), name="autoencoder")


SEQUENCES: dict[str, Callable[[], tf_keras.Model]] = {
    "wake word": wake_word,
    "temporal convolutions": temporal,
    "residual heart beats": heart,
    "dense autoencoder": autoencoder,
}


def build(name: str) -> tf_keras.Model:
    """Return a network, the same at every call, with batch norms that fit its random weights and normal noise."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    model = SEQUENCES[name]()
    norms = [layer for layer in model.submodules if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the statistics become those of one batch
    model(tf.random.normal((FITTED_EXAMPLES, *model.input_shape[1:])), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model
