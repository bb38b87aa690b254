"""Models of Keras 3, in the forms in which people write them, as models of Keras 2."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

from edgeship.core.errors import InputError, LoweringError, ModelError
from edgeship.model.keras3 import as_keras2
from edgeship.model.keras3.translate import TOLERANCE, translate

IMAGE = (8, 8, 4)


def shaken(model: Any) -> Any:
    """A model none of whose weights has the value that a fresh layer gives it."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(np.abs(weight.numpy() + generator.normal(0, 0.2, weight.shape)).astype(weight.dtype))
    return model


def model_of(function: Any, shape: tuple[int, ...] = IMAGE, **options: Any) -> Any:
    image = keras.Input(shape, name="image", **options)
    model = keras.Model(image, function(image), name="third")
    model(np.zeros((1, *shape), np.float32))  # an activation that is a layer is not built before
    return shaken(model)


def answers(model: Any, inputs: Any) -> list[np.ndarray]:
    return [np.asarray(item) for item in tf.nest.flatten(model(inputs, training=False))]


def check_same(model: Any, translated: tf_keras.Model, inputs: Any) -> None:
    for one, other in zip(answers(model, inputs), answers(translated, inputs), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE * np.abs(one).max())


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


class ResidualUnit(keras.layers.Layer):
    """Lists of layers and an activation, as text books write it: no get_config, not registered."""

    def __init__(self, filters, strides=1, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.main_layers = [
            layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False), layers.BatchNormalization(),
            self.activation,
            layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization(),
        ]
        self.skip_layers = []
        if strides > 1:
            self.skip_layers = [
                layers.Conv2D(filters, 1, strides=strides, padding="same", use_bias=False), layers.BatchNormalization(),
            ]

    def call(self, inputs):
        Z = inputs
        for layer in self.main_layers:
            Z = layer(Z)
        skip_Z = inputs
        for layer in self.skip_layers:
            skip_Z = layer(skip_Z)
        return self.activation(Z + skip_Z)


class Weighted(keras.layers.Layer):
    """Variables of its own, left and right of operators, in keras.ops and in raw TensorFlow."""

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],), initializer="ones")
        self.matrix = self.add_weight(name="matrix", shape=(shape[-1], 6), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(6,), initializer="zeros", trainable=False)

    def call(self, x):
        y = self.gamma * ops.relu6(x) + x * self.gamma
        return tf.nn.relu(tf.matmul(y, self.matrix) + self.bias) - ops.max(x, axis=-1, keepdims=True)


class Scaled(layers.Conv2D):
    def call(self, x):
        return super().call(x) * 2.0


class Holder(keras.layers.Layer):
    """A model, a dictionary of layers, and a layer made on the way."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.backbone = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3, name="inside")], name="backbone")
        self.pools = {"mean": layers.GlobalAveragePooling2D()}

    def call(self, x):
        return layers.Concatenate()([self.pools["mean"](self.backbone(x)), self.pools["mean"](x)])


LAYERS = {
    "composites": lambda x: ResidualUnit(8, strides=2)(ResidualUnit(4)(x)),
    "variables": lambda x: Weighted()(x),
    "inherited": lambda x: Scaled(5, 3, activation="relu")(x),
    "held": lambda x: Holder()(x),
    "lambda": lambda x: layers.Lambda(lambda y: ops.relu(y) * 2 + tf.nn.relu6(y))(x),
    "operators": lambda x: (x * 2 - 1) / 3 + x[:, ::-1] @ ops.transpose(x, (0, 1, 3, 2))[..., :4],
    "operations": lambda x: ops.concatenate([
        ops.max(x, axis=-1, keepdims=True), ops.mean(x, axis=-1, keepdims=True), ops.swapaxes(ops.relu6(x), 1, 2),
    ], axis=-1),
    "moves": lambda x: ops.concatenate([
        ops.take(ops.roll(x, (1, -2), axis=(1, 2)), [3, -4, 1, 1], axis=-1),
        ops.flip(ops.tile(x[..., :2], [2]), axis=1),
        ops.take(ops.repeat(x, 2, axis=2), np.arange(-8, 0), axis=2), ops.take(x, -1, axis=1)[:, None] + x,
    ], axis=-1),
    "functions as activations": lambda x: layers.Conv2D(4, 3, activation=lambda y: ops.relu(y) - 0.5)(x),
    "layers as activations": lambda x: layers.Conv2D(4, 3, activation=layers.PReLU(shared_axes=[1, 2]))(x),
    "activations of another meaning": lambda x: layers.Activation("hard_sigmoid")(layers.Dense(4, "hard_silu")(x)),
    "normalizations": lambda x: layers.GroupNormalization(2)(
        layers.LayerNormalization()(layers.BatchNormalization()(x))
    ),
    "convolutions": lambda x: layers.SeparableConv2D(4, 3)(layers.DepthwiseConv2D(3, depth_multiplier=2)(
        layers.Conv2DTranspose(4, 3, strides=2, output_padding=1)(x)
    )),
    "sizes": lambda x: layers.Resizing(5, 7)(layers.UpSampling2D(2, interpolation="bilinear")(
        layers.ZeroPadding2D(1)(layers.Cropping2D(1)(x))
    )),
    "slopes": lambda x: layers.LeakyReLU(negative_slope=0.2)(layers.ReLU(negative_slope=0.1, max_value=6.0)(x)),
    "random in training": lambda x: layers.RandomFlip()(layers.RandomZoom(0.1)(layers.GaussianNoise(0.1)(
        layers.Dropout(0.2)(x)
    ))),
    "no layer of this class in Keras 2": lambda x: layers.RandomGrayscale()(layers.RMSNormalization()(x)[..., :3]),
    "shared": lambda x: (lambda conv: conv(x) + conv(x * 2.0))(layers.Conv2D(4, 3)),
}
SEQUENCES = {
    "recurrent": lambda x: layers.Bidirectional(layers.LSTM(3))(layers.GRU(4, return_sequences=True)(x)),
    "attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x),
    "spread over steps": lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    "of one dimension": lambda x: layers.MaxPooling1D(2)(layers.Conv1D(4, 3, padding="causal")(x)),
    "masked": lambda x: layers.LSTM(3)(layers.Masking()(x)),
}


@pytest.mark.parametrize("name", [*LAYERS, *SEQUENCES])
def test_a_layer_answers_as_in_keras_3_and_has_all_its_weights(name):
    shape = IMAGE if name in LAYERS else (6, 4)
    model = model_of({**LAYERS, **SEQUENCES}[name], shape)
    before = model.get_weights()
    translated = translate(model)
    check_same(model, translated, noise(3, *shape))
    for kind in ("trainable_weights", "non_trainable_weights"):
        assert sorted(tuple(weight.shape) for weight in getattr(model, kind)) == sorted(
            tuple(weight.shape) for weight in getattr(translated, kind)
        )
    assert not {id(weight) for weight in translated.weights} & {id(weight._value) for weight in model.weights}
    assert [layer.name for layer in model.layers if isinstance(layer, keras.Layer)] == [
        layer.name for layer in translated.layers if "OpLambda" not in type(layer).__name__
    ]
    for old, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, weight)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.flatten, self.dense = layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)

    def call(self, x, training=None):
        return self.dense(self.flatten(self.conv(x)))


class OfTwo(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.other = layers.Dense(3), layers.Dense(2)

    def call(self, inputs):
        return {"q": self.one(inputs["x"]), "p": self.other(inputs["y"])}


def test_subclassed_models_are_translated_once_they_are_built():
    model = Subclassed(name="mine")
    with pytest.raises(LoweringError, match=r"mine \(Subclassed\): the model is not built, so its input shapes"):
        translate(model)
    model(noise(1, *IMAGE))
    translated = translate(shaken(model))
    assert (translated.name, translated.input_shape) == ("mine", (None, *IMAGE))
    check_same(model, translated, noise(3, *IMAGE))


def test_structures_of_inputs_and_outputs_stay():
    model = OfTwo()
    model({"x": noise(1, 4), "y": noise(1, 5)})
    translated = translate(shaken(model))
    inputs = {"x": noise(3, 4), "y": noise(3, 5)}
    check_same(model, translated, inputs)
    assert sorted(translated(inputs)) == ["p", "q"]

    left, right = keras.Input((4,), name="left"), keras.Input((5,), name="right")
    outputs = {"z": layers.Dense(2, name="one")(right), "y": layers.Dense(3, name="two")(left)}
    model = shaken(keras.Model([left, right], outputs))
    translated = translate(model)
    assert translated.input_names == ["left", "right"]
    check_same(model, translated, [noise(3, 4), noise(3, 5)])


def test_a_model_of_several_arguments_is_refused_where_keras_does_not_know_their_shapes():
    class Arguments(keras.Model):
        def __init__(self):
            super().__init__(name="arguments")
            self.dense = layers.Dense(3)

        def call(self, left, right):
            return self.dense(left) + right

    model = Arguments()
    model(noise(1, 4), noise(1, 3))
    with pytest.raises(LoweringError, match=r"arguments .*: its call\(\) takes 2 inputs \(left, right\), and"):
        translate(model)


def test_nested_and_frozen_models_stay_nested_and_frozen():
    inner = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3), layers.BatchNormalization()], name="inner")
    inner.layers[0].trainable = False
    model = model_of(lambda x: layers.Flatten()(inner(x)))
    translated = translate(model)
    assert isinstance(translated.get_layer("inner"), tf_keras.Model)
    assert len(translated.trainable_weights) == len(model.trainable_weights) == 2
    check_same(model, translated, noise(3, *IMAGE))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_layer_can_compute_in_mixed_precision_and_is_float32(policy):
    """With any weights: what they round differs by a factor of three between seeds."""
    for seed in range(10):
        keras.utils.set_random_seed(seed)
        model = model_of(lambda x: layers.Dense(3, dtype=policy)(layers.Conv2D(4, 3, dtype=policy)(x)))
        translated = translate(model)
        assert {layer.compute_dtype for layer in translated.layers} == {"float32"}


def test_channels_first_images_need_no_kernel_of_their_own():
    """Outside of a graph, TensorFlow has no such convolution or pooling on a CPU."""
    first = {"data_format": "channels_first"}
    image = keras.Input((3, 10, 8), name="image")
    x = layers.MaxPooling2D(**first)(layers.Conv2D(4, 3, activation="relu", **first)(image))
    model = shaken(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D(**first)(x))))
    translated = as_keras2(model)
    inputs = noise(4, 3, 10, 8)
    np.testing.assert_allclose(
        translated.predict(inputs, verbose=0), model.predict(inputs, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_statistics_become_constants():
    normalization = layers.Normalization()
    normalization.adapt(noise(50, *IMAGE) * 3 + 1)
    model = keras.Sequential([keras.Input(IMAGE), normalization])
    check_same(model, translate(model), noise(3, *IMAGE))


def test_training_stays_what_it_is():
    """Dropout drops, batch norm takes the batch's statistics, losses and moving averages of the user's go on."""

    class Moving(keras.layers.Layer):
        def build(self, shape):
            self.mean = self.add_weight(name="mean", shape=(shape[-1],), initializer="zeros", trainable=False)

        def call(self, x, training=False):
            if training:
                self.mean.assign(0.5 * self.mean + 0.5 * ops.mean(x, axis=[0, 1, 2]))
                self.add_loss(ops.mean(x * x))
            return x - self.mean

    model = keras.Sequential([
        keras.Input(IMAGE), layers.Dropout(0.5, name="dropout"), layers.BatchNormalization(name="norm"),
        layers.Conv2D(3, 3, kernel_regularizer="l2", bias_constraint="non_neg", name="conv"), Moving(name="moving"),
        layers.Flatten(), layers.Dense(2, name="dense"),
    ])
    translated = translate(model)
    inputs = noise(64, *IMAGE)
    same, dropped = (np.asarray(translated.get_layer("dropout")(inputs, training=flag)) for flag in (False, True))
    np.testing.assert_array_equal(same, inputs)
    assert 0.4 < np.mean(dropped == 0) < 0.6
    assert isinstance(translated.get_layer("conv").bias_constraint, tf_keras.constraints.NonNeg)
    translated.compile("sgd", "mse")
    translated.fit(inputs, np.zeros((64, 2), np.float32), verbose=0)
    assert np.all(translated.get_layer("moving").weights[0].numpy() != 0)
    assert np.all(translated.get_layer("norm").moving_mean.numpy() != 0)
    assert len(translated.losses) == 2  # the regularizer's, and the one that the layer adds
    for weight, fresh in zip(model.get_layer("dense").weights, translated.get_layer("dense").weights, strict=True):
        assert np.any(weight.numpy() != fresh.numpy())


class DropsAlways(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.5, name="inside")

    def call(self, x):
        return self.dropout(x, training=True)


@pytest.mark.parametrize(("middle", "named"), [
    (lambda x: layers.Dropout(0.5, name="always")(x, training=True), r"always \(Dropout\)"),
    (lambda x: layers.BatchNormalization(name="norm")(x, training=True), r"norm \(BatchNormalization\)"),
    (lambda x: DropsAlways()(x), r"inside \(Dropout\)"),
])
def test_training_that_is_asked_for_is_refused_by_the_layer_s_name(middle, named):
    with pytest.raises(LoweringError, match=rf"^{named}: it is called with training=True, which Keras 3 goes by in"):
        translate(model_of(lambda x: layers.Flatten()(middle(x))))


def test_training_that_changes_nothing_is_no_matter():
    model = model_of(lambda x: layers.Flatten()(layers.Dropout(0.0)(x, training=True)))
    check_same(model, translate(model), noise(3, *IMAGE))


def test_a_user_s_regularizer_and_constraint_go_on():
    class Half(keras.constraints.Constraint):
        def __call__(self, w):
            return w * 0.5

    class Squares(keras.regularizers.Regularizer):
        def __call__(self, w):
            return 2.0 * ops.sum(w**2)

    model = model_of(lambda x: layers.Dense(2, kernel_regularizer=Squares(), bias_constraint=Half(), name="dense")(x))
    translated = translate(model)
    np.testing.assert_allclose(translated.losses[0], model.losses[0], rtol=1e-6)
    bias = translated.get_layer("dense").bias
    np.testing.assert_allclose(bias.constraint(bias), bias.numpy() / 2)


def test_what_cannot_be_translated_is_one_sentence():
    class Looks(keras.layers.Layer):
        def compute_output_shape(self, shape):
            return shape

        def call(self, x):
            return x + float(np.asarray(x).max())

    class Noisy(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(ops.shape(x))

    for function, message in {
        lambda x: Looks(name="looks")(x): r"^looks \(Looks\): its call\(\) could not be run on tensors of TensorFlow",
        lambda x: Noisy(name="noisy")(x): r"computes another 'noisy' on the same noise .*; does a layer draw random",
    }.items():
        with pytest.raises(LoweringError, match=message) as caught:
            translate(model_of(function))
        assert "\n" not in str(caught.value)


def test_a_variable_without_a_place_is_named():
    model = model_of(lambda x: layers.Flatten()(x))
    model.extra = layers.Dense(3, name="extra")
    model.extra.build((None, 4))
    with pytest.raises(LoweringError, match=r"third \(Functional\): 2 of 2 weights have no place .*'extra/kernel'"):
        translate(model)


def test_what_is_no_model_of_keras_3_stays_as_it_is():
    model = tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2)])
    assert as_keras2(model) is model
    assert as_keras2("text") == "text"
    assert issubclass(ModelError, InputError)
