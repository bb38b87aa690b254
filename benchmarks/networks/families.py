"""Small models of many families, written the way their authors write them: composite layers with operators inside.

`FAMILIES` maps a name to a function without arguments that builds the model, with random weights and batch norms that
fit them. Used by the tests and by benchmarks/families.py. `families_of(keras)` are the same in Keras 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from benchmarks.networks import of_keras
from benchmarks.networks.images import CLASSES, fit

keras = globals().get("keras", tf_keras)
layers, applications = keras.layers, keras.applications
own = of_keras(keras, "layers")
SHAPE, WIDTH = (32, 32, 3), 8


def image(name="image", shape=SHAPE):
    return layers.Input(shape, name=name)


def head(x, name="probabilities"):
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(CLASSES, activation="softmax", name=name)(x)


def stem(x, width=WIDTH, activation="relu"):
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    return layers.Activation(activation, name="stem_act")(x)


def residual(**options):
    inputs = image()
    x = stem(inputs)
    for index, (width, strides) in enumerate([(WIDTH, 1), (2 * WIDTH, 2)]):
        x = own.Basic(width, strides, name=f"unit{index}", **options)(x)
    return keras.Model(inputs, head(x), name="residual")


def bottleneck(**options):
    inputs = image()
    x = own.Bottleneck(WIDTH, name="unit0", **options)(stem(inputs))
    return keras.Model(inputs, head(own.Bottleneck(WIDTH, 2, name="unit1", **options)(x)), name="bottleneck")


def pre_activation():
    inputs = image()
    x = layers.Conv2D(WIDTH, 3, padding="same", name="stem")(inputs)
    x = own.PreActivation(WIDTH, name="unit0")(x)
    x = own.PreActivation(2 * WIDTH, 2, name="unit1")(x)
    x = layers.ReLU(name="last_act")(layers.BatchNormalization(name="last_norm")(x))
    return keras.Model(inputs, head(x), name="pre_activation")


def inverted(activation="relu6", **options):
    def build():
        inputs = image()
        x = stem(inputs, activation=tf.nn.relu6 if activation == "relu6" else activation)
        for index, (width, strides) in enumerate([(WIDTH, 1), (WIDTH, 1), (2 * WIDTH, 2)]):
            x = own.InvertedResidual(width, strides, name=f"unit{index}", **options)(x)
        return keras.Model(inputs, head(x), name="inverted")

    return build


def chain(*parts, **stem_options):
    """A stem, the parts in a row, a head."""

    def build():
        inputs = image()
        x = stem(inputs, **stem_options)
        for index, part in enumerate(parts):
            x = part(f"unit{index}")(x)
        answers = head(x) if len(x.shape) == 4 else layers.Dense(CLASSES, "softmax", name="probabilities")(x)
        return keras.Model(inputs, answers, name="chain")

    return build


def plain_vgg():
    return keras.Sequential([
        layers.Input(SHAPE, name="image"),
        *(layer for width in (WIDTH, 2 * WIDTH) for layer in (
            layers.Conv2D(width, 3, padding="same", activation="relu"), layers.Conv2D(width, 3, activation="relu"),
            layers.MaxPooling2D(),
        )),
        layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dropout(0.5),
        layers.Dense(CLASSES, activation="softmax"),
    ], name="vgg")


def biased_average_pooling():
    return keras.Sequential([
        layers.Input(SHAPE, name="image"), layers.Conv2D(WIDTH, 5, bias_initializer="normal"), layers.ReLU(),
        layers.AveragePooling2D(2), layers.Conv2D(2 * WIDTH, 3, bias_initializer="normal"),
        layers.BatchNormalization(), layers.LeakyReLU(0.1), layers.AveragePooling2D(3, 2, "same"),
        layers.Flatten(), layers.Dense(CLASSES, activation="softmax"),
    ], name="average")


def separable():
    inputs = image()
    x = stem(inputs)
    for index in range(2):
        y = layers.SeparableConv2D(2 * WIDTH, 3, padding="same", use_bias=False, name=f"separable{index}")(x)
        y = layers.BatchNormalization(name=f"norm{index}")(y)
        y = layers.MaxPooling2D(3, 2, "same", name=f"pool{index}")(y)
        x = layers.Conv2D(2 * WIDTH, 1, 2, name=f"shortcut{index}")(x)
        x = layers.ReLU(name=f"act{index}")(layers.Add(name=f"add{index}")([x, y]))
    return keras.Model(inputs, head(x), name="separable")


def nested_models():
    part = keras.Sequential([layers.Input((16, 16, WIDTH)), own.Basic(WIDTH), own.Basic(2 * WIDTH, 2)], name="part")
    inside = layers.Input(SHAPE)
    backbone = keras.Model(inside, part(stem(inside)), name="backbone")
    inputs = image()
    return keras.Model(inputs, head(backbone(inputs)), name="nested")


def two_inputs():
    left, right = image("left"), image("right")
    tower = keras.Sequential([
        layers.Input(SHAPE), layers.Conv2D(WIDTH, 3, 2, activation="relu"), own.Basic(WIDTH),
        layers.GlobalAveragePooling2D(),
    ], name="tower")
    x = layers.Concatenate(name="both")([tower(left), tower(right)])
    answers = layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    return keras.Model([left, right], answers, name="two")


def two_outputs():
    inputs = image()
    x = own.Basic(WIDTH, name="unit")(stem(inputs))
    coarse = layers.Dense(4, activation="softmax", name="coarse")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(inputs, {"coarse": coarse, "fine": head(own.Basic(2 * WIDTH, 2, name="deep")(x), "fine")},
                          name="two_outputs")


def encoder_decoder():
    """U-Net in small: transposed convolutions, a skip by concatenation, one answer per pixel."""
    inputs = image()
    fine = layers.Conv2D(WIDTH, 3, padding="same", activation="relu", name="fine")(inputs)
    coarse = layers.Conv2D(2 * WIDTH, 3, 2, padding="same", activation="relu", name="coarse")(fine)
    x = layers.Conv2DTranspose(WIDTH, 3, 2, padding="same", name="up")(coarse)
    x = layers.ReLU(name="up_act")(layers.BatchNormalization(name="up_norm")(x))
    x = layers.Concatenate(name="skip")([fine, x])
    x = layers.Conv2D(WIDTH, 3, padding="same", activation="relu", name="merge")(x)
    x = layers.Conv2DTranspose(WIDTH, 2, 2, padding="valid", activation="relu", name="larger")(x)
    x = layers.Cropping2D(2, name="crop")(x)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1, activation="softmax", name="pixels")(x), name="decoder")


def pyramid(method):
    def build():
        inputs = image()
        fine = stem(inputs)
        coarse = own.Basic(2 * WIDTH, 2, name="coarse")(fine)
        lateral = layers.Conv2D(WIDTH, 1, name="lateral")(coarse)
        return keras.Model(inputs, head(own.Upsampling(WIDTH, method, name="merge")([fine, lateral])), name="pyramid")

    return build


def vision(build, size=32, **options):
    """One of Keras' own networks, whole, with random weights."""
    return lambda: build(weights=None, input_shape=(size, size, 3), classes=CLASSES, **options)


SMALL: dict[str, Callable[[], tf_keras.Model]] = {
    "residual": residual,
    "residual, squeeze and excite": lambda: residual(excite=True),
    "bottleneck": bottleneck,
    "bottleneck, squeeze and excite": lambda: bottleneck(excite=True),
    "pre-activation": pre_activation,
    "inverted residual, relu6": inverted(),
    "inverted residual, hard-swish, squeeze and excite": inverted(
        own.hard_swish, act=own.hard_swish, gate=own.hard_sigmoid
    ),
    "inverted residual, swish, squeeze and excite": inverted("swish", act=tf.nn.silu, gate=tf.sigmoid, drop=0.2),
    "inception": chain(
        lambda name: layers.MaxPooling2D(2, name=name),
        lambda name: own.Inception(WIDTH, layers.AveragePooling2D, name=name),
        lambda name: own.Inception(WIDTH, layers.MaxPooling2D, name=name),
    ),
    "densely connected": chain(lambda name: own.DenseBlock(4, 3, name=name)),
    "nested composites": chain(
        lambda name: own.Stage(WIDTH, 2, 1, name=name), lambda name: own.Stage(2 * WIDTH, 1, 2, name=name)
    ),
    "nested models": nested_models,
    "shared convolution": chain(lambda name: own.SharedConvolution(WIDTH, name=name)),
    "stochastic depth and dropout": chain(lambda name: own.StochasticUnit(WIDTH, name=name)),
    "ghost": chain(lambda name: own.Ghost(2 * WIDTH - 1, name=name)),
    "channel shuffle": chain(lambda name: own.Shuffle(WIDTH, name=name), lambda name: own.Shuffle(WIDTH, name=name)),
    "spatial attention": chain(lambda name: own.SpatialAttention(name=name)),
    "re-parameterized branches": chain(
        lambda name: own.RepVgg(WIDTH, name=name), lambda name: own.RepVgg(WIDTH, name=name)
    ),
    "layer scale": chain(lambda name: own.LayerScaleUnit(name=name)),
    "explicit padding": chain(lambda name: own.PadAndCrop(2 * WIDTH, name=name)),
    "encoder and decoder": encoder_decoder,
    "pyramid, nearest": pyramid("nearest"),
    "pyramid, bilinear": pyramid("bilinear"),
    "bias and average pooling": biased_average_pooling,
    "separable convolution": separable,
    "two inputs": two_inputs,
    "two outputs": two_outputs,
    "plain (VGG)": plain_vgg,
}
NETWORKS: dict[str, Callable[[], tf_keras.Model]] = {
    "ResNet50": vision(applications.ResNet50),
    "ResNet50V2": vision(applications.ResNet50V2),
    "MobileNetV2": vision(applications.MobileNetV2, alpha=0.35),
    "MobileNetV3Small": vision(applications.MobileNetV3Small),
    "MobileNetV3Large": vision(applications.MobileNetV3Large),
    "EfficientNetB0": vision(applications.EfficientNetB0),
    "DenseNet121": vision(applications.DenseNet121),
    "InceptionV3": vision(applications.InceptionV3, size=75),
    "Xception": vision(applications.Xception, size=71),
    "NASNetMobile": vision(applications.NASNetMobile),
}
FAMILIES = {**SMALL, **NETWORKS}


def families_of(keras: Any) -> dict[str, Callable[[], Any]]:
    """Return the same families as models of another Keras (`import keras`: Keras 3)."""
    return of_keras(keras, "families").FAMILIES


def build(name: str) -> tf_keras.Model:
    """A family's model, the same at every call."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    model = FAMILIES[name]()
    fit(model)
    return model
