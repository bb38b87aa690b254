"""The five networks of MLPerf Tiny in shape, with random weights.

`TINY` has their names; `build` makes one. Written after the
benchmark's description (Banbury et al. 2021): what each layer is, how wide, with which strides.
"""

from __future__ import annotations

from collections.abc import Callable

import tf_keras
from tf_keras import layers

from benchmarks.networks import sequences
from benchmarks.networks.images import fit


def _norm_relu(x, name):
    return layers.ReLU(name=f"{name}_act")(layers.BatchNormalization(name=f"{name}_norm")(x))


def resnet8(size=32, classes=10):
    """Image classification: three residual units of 16, 32 and 64 filters."""
    picture = layers.Input((size, size, 3), name="picture")
    x = _norm_relu(layers.Conv2D(16, 3, padding="same", name="stem")(picture), "stem")
    for index, (filters, strides) in enumerate([(16, 1), (32, 2), (64, 2)]):
        name = f"unit{index}"
        y = _norm_relu(layers.Conv2D(filters, 3, strides, "same", name=f"{name}_a")(x), f"{name}_a")
        y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_b")(y)
        y = layers.BatchNormalization(name=f"{name}_b_norm")(y)
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides, "same", name=f"{name}_shortcut")(x)
        x = layers.Activation("relu", name=f"{name}_act")(layers.Add(name=f"{name}_sum")([x, y]))
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(size // 4, name="pool")(x))
    return tf_keras.Model(picture, layers.Dense(classes, activation="softmax", name="class")(x), name="resnet8")


MOBILENET_BLOCKS = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]


def mobilenet(size=96, classes=2):
    """Visual wake words: MobileNetV1 at a quarter of its width."""
    picture = layers.Input((size, size, 3), name="picture")
    x = _norm_relu(layers.Conv2D(8, 3, 2, "same", use_bias=False, name="stem")(picture), "stem")
    for index, (filters, strides) in enumerate(MOBILENET_BLOCKS):
        x = _separable(x, filters, strides, index, use_bias=False)
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(x.shape[1:3], name="pool")(x))
    return tf_keras.Model(picture, layers.Dense(classes, activation="softmax", name="person")(x), name="mobilenet")


def ds_cnn(classes=12):
    """Keyword spotting: depthwise separable convolutions over frames and cepstral coefficients, not square."""
    sound = layers.Input((49, 10, 1), name="sound")
    x = _norm_relu(layers.Conv2D(64, (10, 4), (2, 2), "same", name="stem")(sound), "stem")
    x = layers.Dropout(0.2, name="dropout0")(x)
    for index in range(4):
        x = _separable(x, 64, 1, index, use_bias=True)
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(layers.Dropout(0.4, name="dropout1")(x))
    x = layers.Flatten(name="flat")(x)
    return tf_keras.Model(sound, layers.Dense(classes, activation="softmax", name="word")(x), name="ds_cnn")


def _separable(x, filters, strides, index, *, use_bias):
    depthwise = layers.DepthwiseConv2D(3, strides, "same", use_bias=use_bias, name=f"depthwise{index}")
    x = _norm_relu(depthwise(x), f"depthwise{index}")
    return _norm_relu(layers.Conv2D(filters, 1, use_bias=use_bias, name=f"pointwise{index}")(x), f"pointwise{index}")


PICTURES: dict[str, Callable[[], tf_keras.Model]] = {
    "ResNet-8": resnet8, "MobileNetV1 0.25": mobilenet, "DS-CNN": ds_cnn,
}
SEQUENCES = {"dense autoencoder": "dense autoencoder", "streaming wake word": "wake word"}
TINY = (*PICTURES, *SEQUENCES)


def build(name: str) -> tf_keras.Model:
    """Return a network, the same at every call, with batch norms that fit its random weights."""
    if name in SEQUENCES:
        return sequences.build(SEQUENCES[name])
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    model = PICTURES[name]()
    fit(model)
    return model
