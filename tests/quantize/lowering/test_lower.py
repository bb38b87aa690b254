from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.resnet import build_resnet
from edgeship.quantize.lowering.kinds import is_composite
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.lowering.operators import is_operator

applications = tf_keras.applications


def noise_for(model):
    generator = np.random.default_rng(0)
    return tf.nest.map_structure(
        lambda tensor: generator.normal(size=(2, *tensor.shape[1:])).astype(np.float32), model._nested_inputs
    )


def assert_same(model, flat, *, training=False):
    """Bit for bit, output by output."""
    noise = noise_for(flat)
    expected, found = model(noise, training=training), flat(noise, training=training)
    tf.nest.assert_same_structure(expected, found)
    for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
        np.testing.assert_array_equal(one, other)


def assert_same_weights(model, flat):
    """The same arrays, each exactly once, in whatever order."""
    one, other = (sorted((w.shape.as_list(), w.numpy().tobytes()) for w in m.weights) for m in (model, flat))
    assert one == other


def randomize(model):
    """Weights that differ from one another: a swap would show."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        sign = 1 if "variance" in weight.name else generator.choice([-1, 1], weight.shape)
        weight.assign(sign * generator.uniform(0.5, 1.5, weight.shape))
    return model


class Concatenating(layers.Layer):
    """A composite with a layer used twice, a nested composite and tf operators."""

    def build(self, shape):
        self.conv = layers.Conv2D(shape[-1], 3, padding="same", name=f"{self.name}_conv")
        self.conv.build(shape)
        self.dropout = layers.Dropout(0.5, seed=1, name=f"{self.name}_dropout")
        super().build(shape)

    def call(self, x, training=None):
        twice = self.conv(tf.nn.relu6(self.conv(x)))
        return tf.concat([tf.nn.relu(x + twice), self.dropout(x, training=training)], axis=-1)


class Unit(layers.Layer):
    """A composite whose inner layers have the same names in every instance."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3, padding="same", name="conv")
        self.norm, self.act = layers.BatchNormalization(), layers.ReLU(6.0)

    def call(self, x):
        return self.act(self.norm(self.conv(x)) + x)


class Stage(layers.Layer):
    """A composite of composites and a nested Sequential."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.units = [Unit(), Unit()]
        self.tail = tf_keras.Sequential([layers.Conv2D(4, 1), layers.BatchNormalization()])
        self.nothing = tf_keras.Sequential([])

    def call(self, x):
        for unit in self.units:
            x = unit(x)
        return self.nothing(x) + self.tail(x)


class TwoHeads(layers.Layer):
    """A composite with a dict of outputs, called on a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left, self.right = layers.Dense(3, name="left"), layers.Dense(2, name="right")

    def call(self, inputs):
        first, second = inputs
        return {"sum": self.left(first + second), "difference": self.right(first - second)}


def model_of(layer, shape=(8, 8, 4)):
    image = layers.Input(shape, name="image")
    return tf_keras.Model(image, layer(image), name="model")


@pytest.mark.parametrize("se_ratio", [0, 4])
def test_the_lowered_network_is_the_same_to_the_last_bit(se_ratio):
    model = build_resnet(input_shape=(16, 16, 1), classes=10, stage_sizes=(2, 2), width=8, se_ratio=se_ratio)
    flat = lower(model)
    assert not any(is_composite(layer) or is_operator(layer) for layer in flat.layers)
    assert_same_weights(model, flat)
    assert_same(model, flat)
    assert_same(model, flat, training=True)


def test_a_users_own_composite_is_lowered_and_its_shared_layer_stays_one():
    model = model_of(Concatenating(name="mine"))
    flat = lower(model)
    assert_same(model, flat)
    assert sum(isinstance(layer, layers.Conv2D) for layer in flat.layers) == 1
    noise = noise_for(flat)
    assert np.any(flat(noise, training=True)[..., 4:] != noise)  # dropout still drops in training


def test_names_tell_where_a_layer_comes_from_and_are_the_same_in_every_build():
    def names():
        return [layer.name for layer in lower(model_of(Stage(name="stage"))).layers]

    assert names() == names()
    assert {
        "stage_unit_conv", "stage_unit_batch_normalization", "stage_unit_add", "stage_unit_re_lu",
        "stage_unit_2_conv", "stage_sequential_2_conv2d", "stage_sequential_2_batch_normalization", "stage_add",
    } <= set(names())


def test_composites_of_composites_keep_every_weight():
    model = randomize(model_of(Stage(name="stage")))
    flat = lower(model)
    assert_same_weights(model, flat)
    assert_same(model, flat)
    assert_same(model, flat, training=True)


def test_the_original_is_left_as_it_was():
    model = model_of(Stage(name="stage"))
    before = [weight.numpy() for weight in model.weights]
    flat = lower(model)
    for weight in flat.weights:
        weight.assign(tf.zeros_like(weight))
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_nested_models_called_twice_and_frozen():
    backbone = tf_keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"),
                                    layers.BatchNormalization(name="norm"), layers.GlobalAveragePooling2D()],
                                   name="backbone")
    left, right = layers.Input((8, 8, 3), name="left"), layers.Input((8, 8, 3), name="right")
    distance = layers.Subtract(name="distance")([backbone(left, training=False), backbone(right, training=False)])
    model = randomize(tf_keras.Model([left, right], distance))
    model.get_layer("backbone").get_layer("norm").trainable = False
    flat = lower(model)
    assert [layer.name for layer in flat.layers if layer.weights] == ["backbone_conv", "backbone_norm"]
    assert not flat.get_layer("backbone_norm").trainable
    assert flat.input_names == ["left", "right"]
    assert_same_weights(model, flat)
    assert_same(model, flat)
    assert_same(model, flat, training=True)  # called with training=False: the statistics stay what they are


def test_several_inputs_and_outputs_keep_their_names_and_structure():
    first, second = layers.Input((5,), name="first"), layers.Input((5,), name="second")
    heads = TwoHeads(name="heads")([first, second])
    raw = layers.Add(name="raw")([first, second])
    model = tf_keras.Model({"first": first, "second": second}, {**heads, "raw": raw})
    flat = lower(model)
    assert flat.output_names == model.output_names
    assert set(flat(noise_for(flat))) == {"sum", "difference", "raw"}
    assert_same(model, flat)


class Scaled(layers.Layer):
    """Variables of its own in every way that operators use them."""

    def build(self, shape):
        channels = shape[-1]
        self.gamma = self.add_weight("gamma", shape=(channels,), initializer="uniform")
        self.beta = self.add_weight("beta", shape=(channels,), initializer="uniform")
        self.gain = self.add_weight("gain", shape=(), initializer="ones", trainable=False)
        self.place = self.add_weight("place", shape=(*shape[1:3], channels), initializer="uniform")
        self.kernel = self.add_weight("kernel", shape=(3, 3, channels, 5), initializer="uniform")
        self.depth = self.add_weight("depth", shape=(3, 3, 5, 1), initializer="uniform")
        self.bias = self.add_weight("bias", shape=(5,), initializer="uniform")
        self.matrix = self.add_weight("matrix", shape=(5, 3), initializer="uniform")
        super().build(shape)

    def call(self, x):
        x = self.gamma * x - self.beta
        x = x * tf.reshape(self.gain, [1, 1, 1, 1]) + self.place
        x = tf.nn.bias_add(tf.nn.conv2d(x, self.kernel, 2, "SAME"), self.bias)
        x = tf.nn.depthwise_conv2d(x, self.depth, [1, 1, 1, 1], "SAME")
        return tf.matmul(tf.reduce_mean(x, [1, 2]), self.matrix)


def test_a_composites_own_variables_become_layers_of_their_own():
    model = randomize(model_of(Scaled(name="mine")))
    flat = lower(model)
    assert_same_weights(model, flat)
    assert len(flat.trainable_weights) == len(model.trainable_weights) == 7
    assert_same(model, flat)
    scale, offset = flat.get_layer("mine_shift").affine()
    np.testing.assert_array_equal(offset, -model.get_layer("mine").beta.numpy())
    np.testing.assert_array_equal(scale, np.ones(4))


class Convolution(layers.Conv2D):
    """A subclass that changes only the defaults."""

    def __init__(self, filters, kernel_size=3, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)


def test_subclasses_lambdas_and_foreign_activations():
    mish = lambda x: x * tf.tanh(tf.nn.softplus(x))  # noqa: E731
    model = randomize(tf_keras.Sequential([
        layers.Input((8, 8, 3)), Convolution(4, activation=tf.nn.relu6, name="one"),
        layers.Conv2D(4, 1, activation=mish, name="two"), layers.DepthwiseConv2D(3, activation=layers.LeakyReLU(0.2)),
        layers.Lambda(lambda x: x / 6.0, name="sixth"), layers.Activation(mish, name="three"), layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]))
    flat = lower(model)
    assert not any(is_composite(layer) or is_operator(layer) for layer in flat.layers)
    assert type(flat.get_layer("one")) is layers.Conv2D
    assert_same_weights(model, flat)
    assert_same(model, flat)


class Gated(layers.Conv2D):
    """Inherits from a layer and does something of its own with the result; called twice."""

    def call(self, x):
        return tf.sigmoid(super().call(x)) * x


class FrozenNorm(layers.BatchNormalization):
    def call(self, x, training=None):
        return super().call(x, training=False)


def test_a_layer_that_calls_the_one_it_inherits_from():
    gated = Gated(4, 3, padding="same", activation=tf.nn.relu6, name="gated")
    image = layers.Input((8, 8, 4))
    model = randomize(tf_keras.Model(image, FrozenNorm(name="norm")(gated(gated(image)))))
    calls = layers.Conv2D.call, layers.BatchNormalization.call
    flat = lower(model)
    assert [layer.name for layer in flat.layers if layer.weights] == ["gated", "norm"]
    assert [type(layer) for layer in flat.layers if layer.weights] == [layers.Conv2D, layers.BatchNormalization]
    assert_same_weights(model, flat)
    assert_same(model, flat)
    assert_same(model, flat, training=True)
    assert layers.Conv2D.call is calls[0] and layers.BatchNormalization.call is calls[1]


class Subclassed(tf_keras.Model):
    """Not functional at all."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.unit, self.head = layers.Conv2D(4, 3), Unit(name="unit"), layers.Dense(3)
        self.auxiliary = layers.Dense(7)

    @tf.function
    def call(self, x, training=None):
        x = self.unit(self.first(x))
        if training:
            self.auxiliary(x)
        return self.head(tf.reduce_mean(x, axis=[1, 2]))


def test_a_subclassed_model_is_traced_from_the_batch_it_was_built_with():
    model = Subclassed(name="mine")
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    model(noise, training=True)
    flat = lower(model)
    assert flat.input_shape == (None, 8, 8, 3)
    # The layer that only training calls is left out: 4 layers with weights, 10 arrays.
    assert len(flat.weights) == len(model.weights) - 2 == 10
    # tf.function may fuse convolution, bias and ReLU, whose sums then round once less: float32, sums of 36 products.
    np.testing.assert_allclose(flat(noise), model(noise), rtol=1e-5, atol=1e-6)


class DropPath(layers.Layer):
    """Stochastic depth: drops whole examples in training."""

    def call(self, x, training=None):
        if training:
            kept = tf.floor(0.5 + tf.random.uniform([tf.shape(x)[0], 1, 1, 1]))
            return x * kept / 0.5
        return x


class AsksForTraining(layers.Layer):
    def call(self, x, training):
        return tf_keras.backend.in_train_phase(-x, x, training=training)


def test_stochastic_depth_is_gone_in_the_lowered_network():
    image = layers.Input((8, 8, 4))
    model = tf_keras.Model(image, layers.Add()([DropPath()(image), AsksForTraining()(image)]))
    flat = lower(model)
    assert [type(layer) for layer in flat.layers] == [layers.InputLayer, layers.Add]
    assert_same(model, flat)


@pytest.mark.parametrize(
    "build", [applications.MobileNetV3Small, applications.EfficientNetB0, applications.ConvNeXtTiny],
)
def test_published_networks_are_lowered_whole(build):
    model = build(weights=None, input_shape=(32, 32, 3), classes=10)
    flat = lower(model)
    assert not any(is_composite(layer) or is_operator(layer) for layer in flat.layers)
    assert_same(model, flat)
    # Normalization's statistics are constants of the lowered layer.
    constants = {id(w) for layer in model.layers if isinstance(layer, layers.Normalization) for w in layer.weights}
    assert len(flat.weights) == sum(id(weight) not in constants for weight in model.weights)


def test_normalization_keeps_what_it_was_adapted_to():
    model = tf_keras.Sequential([layers.Input((4, 4, 3)), layers.Normalization(axis=-1, name="normalization")])
    model.layers[0].adapt(np.random.default_rng(0).normal(3, 2, size=(50, 4, 4, 3)).astype(np.float32))
    flat = lower(model)
    assert flat.weights == []
    assert_same(model, flat)


class Own(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight("scale", shape=(1, 1, 1, shape[-1]), initializer="ones")
        self.steps = self.add_weight("steps", shape=(), initializer="zeros", trainable=False)
        super().build(shape)


class UsesItsVariableTwice(Own):
    def call(self, x):
        return x * self.scale + self.scale


class NeverUsesIt(Own):
    def call(self, x):
        return x + 1.0


class RootOfItsVariable(Own):
    def call(self, x):
        return tf.pow(x, self.scale)


class CountsCalls(Own):
    def call(self, x):
        self.steps.assign_add(1.0)
        return x * self.scale


class KeepsAnAverage(Own):
    def call(self, x):
        self.scale.assign(0.9 * self.scale + 0.1 * tf.reduce_mean(x, [0, 1, 2], keepdims=True))
        return x * self.scale


class BranchesOnValues(layers.Layer):
    def call(self, x):
        return x if tf.reduce_sum(x) > 0 else -x


class Constant(layers.Layer):
    def call(self, x):
        return tf.zeros([1, 2])


class Noise(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (UsesItsVariableTwice, "mine: the variable 'mine/scale:0' is used in two ways"),
        (NeverUsesIt, "mine: the variable 'mine/scale:0' belongs to no layer of the lowered network"),
        (RootOfItsVariable, r"mine: the variable 'mine/scale:0' belongs to no layer: tf\.math\.pow with it"),
        (CountsCalls, r"mine \(CountsCalls\): a stateful layer, its call\(\) (updates|assigns)"),
        (KeepsAnAverage, r"mine \(KeepsAnAverage\): a stateful layer, its call\(\) assigns to a variable"),
        (BranchesOnValues, r"mine \(BranchesOnValues\): its call\(\) could not be traced"),
        (Constant, r"mine \(Constant\): its call\(\) does not compute its output from its input"),
        (Noise, "the lowered network computes another 'mine' than the model"),
    ],
)
def test_what_cannot_be_lowered_is_refused_by_name(kind, message):
    model = model_of(kind(name="mine"))
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(LoweringError, match=message):
        lower(model)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_models_that_are_none_are_refused_by_name():
    with pytest.raises(LoweringError, match=r"expected a model of tf_keras or keras, found builtins\.str"):
        lower("model.keras")
    for given, message in (
        (model_of, "found the function model_of; give the model that the function returns"),
        (Subclassed, "found the class Subclassed; make a model of it"),
        (layers.Dense(2), r"found tf_keras\..*Dense; put a layer into a model"),
    ):
        with pytest.raises(LoweringError, match=f"expected a model of tf_keras or keras, {message}"):
            lower(given)
    for unbuilt in (tf_keras.Sequential([layers.Dense(2)], name="open"), Subclassed(name="open")):
        with pytest.raises(LoweringError, match=r"'open' \(.*\): the model is not built"):
            lower(unbuilt)


def test_layers_with_state_are_refused_by_name():
    steps = layers.Input((5, 3), batch_size=2)
    with pytest.raises(LoweringError, match=r"memory \(LSTM\): a stateful layer"):
        lower(tf_keras.Model(steps, layers.LSTM(2, stateful=True, name="memory")(steps)))


def test_a_layer_that_reads_another_graph_is_refused_by_name():
    image = layers.Input((4,), name="image")
    outside = layers.Dense(4)(image)
    model = tf_keras.Model(image, layers.Lambda(lambda x: x + 1.0, name="inner")(image))
    model.get_layer("inner").function = lambda x: x + outside
    with pytest.raises(LoweringError, match=r"inner: its call\(\) reads the tensor 'image' of another graph"):
        lower(model)


@pytest.mark.parametrize("inner", [
    lambda: layers.Dense(5, activation="relu"), lambda: layers.Activation("tanh"), lambda: layers.Dropout(0.3),
    lambda: layers.Softmax(), lambda: layers.Dense(5, activation=tf.nn.relu6),
], ids=["dense", "activation", "dropout", "softmax", "a function of TensorFlow's"])
@pytest.mark.parametrize("shape", [(7, 4), (3, 5, 4)])
def test_what_treats_every_position_alike_needs_no_wrapper(inner, shape):
    inputs = layers.Input(shape, name="inputs")
    model = tf_keras.Model(inputs, layers.TimeDistributed(inner(), name="each")(inputs), name="model")
    flat = lower(model)
    assert not any(isinstance(layer, layers.TimeDistributed) for layer in flat.layers)
    noise = noise_for(model)
    np.testing.assert_array_equal(flat(noise), model(noise))


def test_what_treats_positions_otherwise_keeps_its_wrapper():
    inputs = layers.Input((5, 8, 8, 2), name="inputs")
    flat = lower(tf_keras.Model(inputs, layers.TimeDistributed(layers.Conv2D(3, 3), name="each")(inputs), name="model"))
    assert isinstance(flat.get_layer("each"), layers.TimeDistributed)
    inputs = layers.Input((5, 4), name="inputs")
    softmax = layers.TimeDistributed(layers.Softmax(axis=1), name="each")
    flat = lower(tf_keras.Model(inputs, softmax(inputs), name="model"))
    assert isinstance(flat.get_layer("each"), layers.TimeDistributed)
