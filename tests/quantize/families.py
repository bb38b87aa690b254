"""Small models of many families, written the way their authors write them: composite layers with operators inside.

`FAMILIES` maps a name to a function without arguments that builds the model, with random weights and batch norms that
fit them. Used by the tests and by benchmarks/families.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

applications = tf_keras.applications
SHAPE, CLASSES, WIDTH = (32, 32, 3), 10, 8


def image(name="image", shape=SHAPE):
    return layers.Input(shape, name=name)


def head(x, name="probabilities"):
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(CLASSES, activation="softmax", name=name)(x)


def stem(x, width=WIDTH, activation="relu"):
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    return layers.Activation(activation, name="stem_act")(x)


class ConvNorm(layers.Layer):
    """Convolution, batch norm and an activation function."""

    def __init__(self, filters, kernel=3, strides=1, activation=None, depthwise=False, **kwargs):
        super().__init__(**kwargs)
        options = {"strides": strides, "padding": "same", "use_bias": False}
        self.conv = (
            layers.DepthwiseConv2D(kernel, **options) if depthwise else layers.Conv2D(filters, kernel, **options)
        )
        self.norm, self.activation = layers.BatchNormalization(), activation

    def call(self, x, training=None):
        x = self.norm(self.conv(x), training=training)
        return x if self.activation is None else self.activation(x)


class SqueezeExcite(layers.Layer):
    """Channel attention by 1x1 convolutions."""

    def __init__(self, filters, gate=tf.nn.sigmoid, **kwargs):
        super().__init__(**kwargs)
        self.reduce, self.expand = layers.Conv2D(filters // 4, 1), layers.Conv2D(filters, 1)
        self.gate = gate

    def call(self, x):
        s = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
        return x * self.gate(self.expand(tf.nn.relu(self.reduce(s))))


def hard_sigmoid(x):
    return tf.nn.relu6(x + 3.0) / 6.0


def hard_swish(x):
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


class Basic(layers.Layer):
    """Two 3x3 convolutions and a shortcut (He et al. 2015)."""

    def __init__(self, filters, strides=1, excite=False, project=False, **kwargs):
        super().__init__(**kwargs)
        self.first = ConvNorm(filters, strides=strides, activation=tf.nn.relu)
        self.second = ConvNorm(filters)
        self.excite = SqueezeExcite(filters) if excite else None
        self.shortcut = ConvNorm(filters, 1, strides) if project or strides > 1 else None

    def call(self, x, training=None):
        y = self.second(self.first(x, training=training), training=training)
        y = y if self.excite is None else self.excite(y)
        return tf.nn.relu(y + (x if self.shortcut is None else self.shortcut(x, training=training)))


class Bottleneck(Basic):
    """1x1, 3x3, 1x1."""

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(4 * filters, strides, project=True, **kwargs)
        self.first = ConvNorm(filters, 1, activation=tf.nn.relu)
        self.second = tf_keras.Sequential([
            ConvNorm(filters, 3, strides, activation=tf.nn.relu), ConvNorm(4 * filters, 1),
        ])


class PreActivation(layers.Layer):
    """Batch norm and ReLU before the convolution (He et al. 2016)."""

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.norm1, self.norm2 = layers.BatchNormalization(), layers.BatchNormalization()
        self.conv1 = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)
        self.conv2 = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.shortcut = layers.Conv2D(filters, 1, strides) if strides > 1 else None

    def call(self, x):
        y = tf.nn.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(tf.nn.relu(self.norm2(self.conv1(y)))) + shortcut


class InvertedResidual(layers.Layer):
    """Expand, depthwise, (squeeze and excite,) project (Sandler et al. 2018)."""

    def __init__(self, filters, strides=1, act=tf.nn.relu6, gate=None, drop=0.0, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides, self.act, self.gate = filters, strides, act, gate
        self.drop = layers.Dropout(drop, noise_shape=(None, 1, 1, 1)) if drop else None

    def build(self, shape):
        wide = 4 * shape[-1]
        self.expand = ConvNorm(wide, 1, activation=self.act)
        self.depthwise = ConvNorm(wide, 3, self.strides, activation=self.act, depthwise=True)
        self.excite = None if self.gate is None else SqueezeExcite(wide, self.gate)
        self.project = ConvNorm(self.filters, 1)
        self.is_residual = self.strides == 1 and shape[-1] == self.filters
        super().build(shape)

    def call(self, x, training=None):
        y = self.depthwise(self.expand(x, training=training), training=training)
        y = y if self.excite is None else self.excite(y)
        y = self.project(y, training=training)
        if not self.is_residual:
            return y
        return x + (y if self.drop is None else self.drop(y, training=training))


class Inception(layers.Layer):
    """Branches side by side, one of them a pooling (Szegedy et al. 2014)."""

    def __init__(self, filters, pool, **kwargs):
        super().__init__(**kwargs)
        self.one = ConvNorm(filters, 1, activation=tf.nn.relu)
        self.three = [ConvNorm(filters // 2, 1, activation=tf.nn.relu), ConvNorm(filters, 3, activation=tf.nn.relu)]
        self.pool, self.after_pool = pool(3, 1, "same"), ConvNorm(filters, 1, activation=tf.nn.relu)

    def call(self, x):
        three = self.three[1](self.three[0](x))
        return tf.concat([self.one(x), three, self.after_pool(self.pool(x))], axis=-1)


class DenseBlock(layers.Layer):
    """Every layer sees all before it (Huang et al. 2016)."""

    def __init__(self, growth, depth, **kwargs):
        super().__init__(**kwargs)
        self.norms = [layers.BatchNormalization() for _ in range(depth)]
        self.convs = [layers.Conv2D(growth, 3, padding="same", use_bias=False) for _ in range(depth)]

    def call(self, x):
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = tf.concat([x, conv(tf.nn.relu(norm(x)))], -1)
        return x


class Stage(layers.Layer):
    """A composite of composites of composites."""

    def __init__(self, filters, depth, strides, **kwargs):
        super().__init__(**kwargs)
        self.units = [Basic(filters, strides if index == 0 else 1) for index in range(depth)]

    def call(self, x, training=None):
        for unit in self.units:
            x = unit(x, training=training)
        return x


class SharedConvolution(layers.Layer):
    """One convolution at two scales."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.pool = layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D(2)

    def call(self, x):
        return tf.concat([tf.reduce_mean(self.conv(x), [1, 2]), tf.reduce_mean(self.conv(self.pool(x)), [1, 2])], -1)


class DropPath(layers.Layer):
    """Stochastic depth: in training whole examples skip the branch."""

    def call(self, x, training=None):
        if training:
            return x * tf.floor(0.8 + tf.random.uniform([tf.shape(x)[0], 1, 1, 1])) / 0.8
        return x


class StochasticUnit(Basic):
    """A residual unit that is sometimes left out, with dropout inside."""

    def __init__(self, filters, **kwargs):
        super().__init__(filters, **kwargs)
        self.dropout, self.path = layers.Dropout(0.2), DropPath()

    def call(self, x, training=None):
        y = self.second(self.dropout(self.first(x, training=training), training=training), training=training)
        return tf.nn.relu(x + self.path(y, training=training))


class Ghost(layers.Layer):
    """Half of the features from a cheap depthwise convolution of the other half (Han et al. 2019)."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.primary = ConvNorm((filters + 1) // 2, 1, activation=tf.nn.relu)
        self.cheap = ConvNorm(None, 3, activation=tf.nn.relu, depthwise=True)

    def call(self, x):
        y = self.primary(x)
        return tf.concat([y, self.cheap(y)], axis=-1)[..., : self.filters]


class Shuffle(layers.Layer):
    """Half of the channels pass, then all are shuffled (Ma et al. 2018)."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.branch = [
            ConvNorm(filters // 2, 1, activation=tf.nn.relu), ConvNorm(None, 3, depthwise=True),
            ConvNorm(filters // 2, 1, activation=tf.nn.relu),
        ]

    def call(self, x):
        left, right = tf.split(x, 2, axis=-1)
        for part in self.branch:
            right = part(right)
        y = tf.concat([left, right], -1)
        height, width, channels = y.shape[1:]
        y = tf.reshape(y, [-1, height, width, 2, channels // 2])
        return tf.reshape(tf.transpose(y, [0, 1, 2, 4, 3]), [-1, height, width, channels])


class SpatialAttention(layers.Layer):
    """Where to look: mean and maximum over channels, a 7x7 convolution, a sigmoid (Woo et al. 2018)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(1, 7, padding="same", activation="sigmoid")

    def call(self, x):
        mean, largest = tf.reduce_mean(x, -1, keepdims=True), tf.reduce_max(x, -1, keepdims=True)
        return x * self.conv(tf.concat([mean, largest], -1))


class RepVgg(layers.Layer):
    """3x3, 1x1 and identity, each with its batch norm, added up (Ding et al. 2021)."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.three, self.one, self.norm = ConvNorm(filters), ConvNorm(filters, 1), layers.BatchNormalization()

    def call(self, x):
        return tf.nn.relu(tf.add_n([self.three(x), self.one(x), self.norm(x)]))


class LayerScaleUnit(layers.Layer):
    """A depthwise convolution and two dense ones, scaled by a variable per channel (Liu et al. 2022)."""

    def build(self, shape):
        channels = shape[-1]
        self.mix, self.norm = layers.DepthwiseConv2D(7, padding="same"), layers.BatchNormalization()
        self.grow, self.shrink = layers.Conv2D(4 * channels, 1, activation="relu"), layers.Conv2D(channels, 1)
        self.gamma = self.add_weight("gamma", shape=(channels,), initializer="ones")
        super().build(shape)

    def call(self, x):
        return x + self.gamma * self.shrink(self.grow(self.norm(self.mix(x))))


class Upsampling(layers.Layer):
    """Resize to the size of another feature map and add."""

    def __init__(self, filters, method, **kwargs):
        super().__init__(**kwargs)
        self.lateral, self.smooth = layers.Conv2D(filters, 1), layers.Conv2D(filters, 3, padding="same")
        self.method = method

    def call(self, inputs):
        fine, coarse = inputs
        return self.smooth(self.lateral(fine) + tf.image.resize(coarse, fine.shape[1:3], method=self.method))


class PadAndCrop(layers.Layer):
    """Explicit zero padding, as other frameworks' weights need it; a shortcut with zero channels."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv, self.norm = layers.Conv2D(filters, 3, strides=2, use_bias=False), layers.BatchNormalization()

    def call(self, x):
        y = self.norm(self.conv(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])))
        extra = self.filters - x.shape[-1]
        return tf.nn.relu(y + tf.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [0, extra]]))


def residual(**options):
    inputs = image()
    x = stem(inputs)
    for index, (width, strides) in enumerate([(WIDTH, 1), (2 * WIDTH, 2)]):
        x = Basic(width, strides, name=f"unit{index}", **options)(x)
    return tf_keras.Model(inputs, head(x), name="residual")


def bottleneck(**options):
    inputs = image()
    x = Bottleneck(WIDTH, name="unit0", **options)(stem(inputs))
    return tf_keras.Model(inputs, head(Bottleneck(WIDTH, 2, name="unit1", **options)(x)), name="bottleneck")


def pre_activation():
    inputs = image()
    x = layers.Conv2D(WIDTH, 3, padding="same", name="stem")(inputs)
    x = PreActivation(WIDTH, name="unit0")(x)
    x = PreActivation(2 * WIDTH, 2, name="unit1")(x)
    x = layers.ReLU(name="last_act")(layers.BatchNormalization(name="last_norm")(x))
    return tf_keras.Model(inputs, head(x), name="pre_activation")


def inverted(activation="relu6", **options):
    def build():
        inputs = image()
        x = stem(inputs, activation=tf.nn.relu6 if activation == "relu6" else activation)
        for index, (width, strides) in enumerate([(WIDTH, 1), (WIDTH, 1), (2 * WIDTH, 2)]):
            x = InvertedResidual(width, strides, name=f"unit{index}", **options)(x)
        return tf_keras.Model(inputs, head(x), name="inverted")

    return build


def chain(*parts, **stem_options):
    """A stem, the parts in a row, a head."""

    def build():
        inputs = image()
        x = stem(inputs, **stem_options)
        for index, part in enumerate(parts):
            x = part(f"unit{index}")(x)
        answers = head(x) if x.shape.rank == 4 else layers.Dense(CLASSES, "softmax", name="probabilities")(x)
        return tf_keras.Model(inputs, answers, name="chain")

    return build


def plain_vgg():
    return tf_keras.Sequential([
        layers.Input(SHAPE, name="image"),
        *(layer for width in (WIDTH, 2 * WIDTH) for layer in (
            layers.Conv2D(width, 3, padding="same", activation="relu"), layers.Conv2D(width, 3, activation="relu"),
            layers.MaxPooling2D(),
        )),
        layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dropout(0.5),
        layers.Dense(CLASSES, activation="softmax"),
    ], name="vgg")


def biased_average_pooling():
    return tf_keras.Sequential([
        layers.Input(SHAPE, name="image"), layers.Conv2D(WIDTH, 5, bias_initializer="normal"), layers.ReLU(),
        layers.AveragePooling2D(), layers.Conv2D(2 * WIDTH, 3, bias_initializer="normal"),
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
    return tf_keras.Model(inputs, head(x), name="separable")


def nested_models():
    part = tf_keras.Sequential([layers.Input((16, 16, WIDTH)), Basic(WIDTH), Basic(2 * WIDTH, 2)], name="part")
    inside = layers.Input(SHAPE)
    backbone = tf_keras.Model(inside, part(stem(inside)), name="backbone")
    inputs = image()
    return tf_keras.Model(inputs, head(backbone(inputs)), name="nested")


def two_inputs():
    left, right = image("left"), image("right")
    tower = tf_keras.Sequential([
        layers.Input(SHAPE), layers.Conv2D(WIDTH, 3, 2, activation="relu"), Basic(WIDTH),
        layers.GlobalAveragePooling2D(),
    ], name="tower")
    x = layers.Concatenate(name="both")([tower(left), tower(right)])
    answers = layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    return tf_keras.Model([left, right], answers, name="two")


def two_outputs():
    inputs = image()
    x = Basic(WIDTH, name="unit")(stem(inputs))
    coarse = layers.Dense(4, activation="softmax", name="coarse")(layers.GlobalAveragePooling2D(name="pool")(x))
    return tf_keras.Model(inputs, {"coarse": coarse, "fine": head(Basic(2 * WIDTH, 2, name="deep")(x), "fine")},
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
    return tf_keras.Model(inputs, layers.Conv2D(CLASSES, 1, activation="softmax", name="pixels")(x), name="decoder")


def pyramid(method):
    def build():
        inputs = image()
        fine = stem(inputs)
        coarse = Basic(2 * WIDTH, 2, name="coarse")(fine)
        lateral = layers.Conv2D(WIDTH, 1, name="lateral")(coarse)
        return tf_keras.Model(inputs, head(Upsampling(WIDTH, method, name="merge")([fine, lateral])), name="pyramid")

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
    "inverted residual, hard-swish, squeeze and excite": inverted(hard_swish, act=hard_swish, gate=hard_sigmoid),
    "inverted residual, swish, squeeze and excite": inverted("swish", act=tf.nn.silu, gate=tf.sigmoid, drop=0.2),
    "inception": chain(
        lambda name: layers.MaxPooling2D(2, name=name),
        lambda name: Inception(WIDTH, layers.AveragePooling2D, name=name),
        lambda name: Inception(WIDTH, layers.MaxPooling2D, name=name),
    ),
    "densely connected": chain(lambda name: DenseBlock(4, 3, name=name)),
    "nested composites": chain(
        lambda name: Stage(WIDTH, 2, 1, name=name), lambda name: Stage(2 * WIDTH, 1, 2, name=name)
    ),
    "nested models": nested_models,
    "shared convolution": chain(lambda name: SharedConvolution(WIDTH, name=name)),
    "stochastic depth and dropout": chain(lambda name: StochasticUnit(WIDTH, name=name)),
    "ghost": chain(lambda name: Ghost(2 * WIDTH - 1, name=name)),
    "channel shuffle": chain(lambda name: Shuffle(WIDTH, name=name), lambda name: Shuffle(WIDTH, name=name)),
    "spatial attention": chain(lambda name: SpatialAttention(name=name)),
    "re-parameterized branches": chain(lambda name: RepVgg(WIDTH, name=name), lambda name: RepVgg(WIDTH, name=name)),
    "layer scale": chain(lambda name: LayerScaleUnit(name=name)),
    "explicit padding": chain(lambda name: PadAndCrop(2 * WIDTH, name=name)),
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


def build(name: str) -> tf_keras.Model:
    """A family's model with reproducible random weights: batch norms that fit them, answers that differ by image."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    model = FAMILIES[name]()
    generator = np.random.default_rng(0)
    for layer in (item for item in model._flatten_layers() if isinstance(item, layers.BatchNormalization)):
        layer.momentum = 0.0  # the last batch's statistics
        for weight in (layer.gamma, layer.beta):
            if weight is not None:
                weight.assign(weight + generator.normal(0, 0.2, weight.shape))
    model(inputs_of(model, 40, seed=1), training=True)
    _fit_heads(model)
    return model


def _fit_heads(model: tf_keras.Model) -> None:
    """Give every softmax the weights that tell the kinds of images apart: ridge regression on random features.

    With random weights there, the answers of a deep network would hang on single steps of rounding.
    """
    heads, last = [], None
    for layer in model.layers:
        last = layer if hasattr(layer, "kernel") else last
        if getattr(layer, "activation", None) is tf_keras.activations.softmax:
            heads.append(layer if layer.weights else last)
    images = inputs_of(model, 20 * CLASSES, seed=2)
    for head in heads:
        features = tf_keras.Model(model.inputs, head.input).predict(images, batch_size=20, verbose=0)
        features = features.reshape(-1, features.shape[-1]).astype(np.float64)
        kernel, bias = head.get_weights()
        wanted = np.eye(bias.size)[answers_of(head.output.shape, images).reshape(-1)]
        mean = features.mean(0)
        centered = features - mean
        spread = centered.T @ centered
        solved = np.linalg.solve(spread + 1e-2 * np.trace(spread) / len(mean) * np.eye(len(mean)), centered.T @ wanted)
        solved *= 8  # one kind is then some e^8 times as probable as another
        head.set_weights([solved.reshape(kernel.shape), 8 * wanted.mean(0) - mean @ solved])


def kinds_of(count: int) -> np.ndarray:
    """Which of the 10 kinds each of the images `inputs_of` gives is of."""
    return np.arange(count) % CLASSES


def answers_of(shape: tf.TensorShape, images: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """The right answers (images, positions) of an output: the image's kind, or at many positions the brightness there.

    Args:
        shape: the output's, `(None, classes)` or `(None, height, width, classes)`.
    """
    first = images[0] if isinstance(images, list) else images
    positions, classes = int(np.prod(shape[1:-1])), shape[-1]
    if positions == 1:
        return kinds_of(len(first)).reshape(-1, 1) % classes
    bright = tf.image.resize(first.mean(-1, keepdims=True), shape[1:3]).numpy() / first.max()
    return np.clip(classes * bright, 0, classes - 1).astype(int).reshape(-1, positions)


def largest_pixel(model: tf_keras.Model) -> float:
    """255 for a network that scales its images itself, as some of Keras' own do; 1 for all others."""
    scales = {node.layer.__class__ for tensor in model.inputs for node in tensor.node.layer.outbound_nodes}
    return 255.0 if layers.Rescaling in scales else 1.0


def inputs_of(model: tf_keras.Model, count: int, *, seed: int) -> np.ndarray | list[np.ndarray]:
    """Images in 0...`largest_pixel` of 10 kinds, each a pattern of blobs with other contrast and noise in every image.

    One array, or a list of one for each input, with the same kind of image at the same place.
    """
    generator = np.random.default_rng(seed)
    arrays = []
    for position, tensor in enumerate(model.inputs):
        height, width, channels = tensor.shape[1:]
        images = []
        for kind in kinds_of(count):
            grid = 2 + kind % 5
            blobs = np.random.default_rng([kind, position]).random((grid, grid, channels), np.float32)
            pattern = tf.image.resize(blobs, (height, width)).numpy()
            noise = generator.normal(0, generator.uniform(0, 0.1), pattern.shape)
            images.append(np.clip(0.5 + generator.uniform(0.6, 1.2) * (pattern - 0.5) + noise, 0, 1))
        arrays.append((largest_pixel(model) * np.stack(images)).astype(np.float32))
    return arrays[0] if len(arrays) == 1 else arrays
