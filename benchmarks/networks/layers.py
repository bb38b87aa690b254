"""The composite layers of the families: each written the way its authors write it, with operators in `call()`.

They are of `keras`: tf_keras, or what `benchmarks.networks.of_keras` puts there.
"""

from __future__ import annotations

import tensorflow as tf
import tf_keras

keras = globals().get("keras", tf_keras)
layers = keras.layers


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
        self.second = keras.Sequential([
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
        self.dropout, self.drop_path = layers.Dropout(0.2), DropPath()

    def call(self, x, training=None):
        y = self.second(self.dropout(self.first(x, training=training), training=training), training=training)
        return tf.nn.relu(x + self.drop_path(y, training=training))


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
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
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
