"""Models in the forms in which their authors leave them: augmentation inside, other precisions, other tools' layers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.tfmot import tfmot
from tests.support.networks import noise_for, randomize

SHAPE = (8, 8, 3)


def model_of(*parts):
    x = image = layers.Input(SHAPE, name="image")
    for part in parts:
        x = part(x)
    return randomize(tf_keras.Model(image, x, name="model"))


def plain():
    return model_of(layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Flatten(), layers.Dense(2))


@pytest.mark.parametrize("augment", [
    [layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
    [tf_keras.Sequential([layers.RandomContrast(0.1), layers.RandomBrightness(0.1)], name="augment")],
    [layers.RandomHeight(0.1), layers.RandomWidth(0.1)],
], ids=["layers", "nested", "sizes"])
def test_augmentation_inside_the_model_is_left_out(augment):
    model = model_of(*augment, layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D())
    flat = lower(model)
    assert [layer.name for layer in flat.layers[:2]] == ["image", "conv"] and flat.get_layer("conv").input_shape[1] == 8
    noise = noise_for(model)
    np.testing.assert_array_equal(flat(noise), model(noise, training=False))


@pytest.mark.parametrize("make", [
    lambda activation: layers.Conv2D(4, 3, activation=activation, name="own"),
    lambda activation: layers.Dense(4, activation=activation, name="own"),
    lambda activation: layers.SeparableConv2D(4, 3, activation=activation, name="own"),
], ids=["conv", "dense", "separable"])
@pytest.mark.parametrize("activation", [
    lambda: layers.PReLU(shared_axes=[1, 2]), lambda: layers.LeakyReLU(0.2), lambda: layers.ELU(),
    lambda: tf_keras.Sequential([layers.PReLU(shared_axes=[1, 2]), layers.Activation("tanh")]),
], ids=["prelu", "leaky", "elu", "model"])
def test_a_layer_as_activation_becomes_a_layer_with_its_weights(make, activation):
    model = model_of(make(activation()))
    flat = lower(model)
    noise = noise_for(model)
    np.testing.assert_allclose(flat(noise), model(noise), rtol=1e-5, atol=1e-5)
    assert sum(weight.shape.num_elements() for weight in flat.weights) == sum(
        weight.shape.num_elements() for weight in model.weights
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_other_precisions_are_lowered_to_float32(policy):
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        model = model_of(
            layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(),
            layers.Lambda(lambda x: tf.cast(tf.nn.relu(x), tf.float32) * 2.0), layers.GlobalAveragePooling2D(),
            layers.Dense(3), layers.Activation("softmax", dtype="float32"),
        )
        flat = lower(model)
        assert tf_keras.mixed_precision.global_policy().name == policy
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in flat.layers} == {"float32"}
    assert {weight.dtype for weight in flat.weights} == {tf.float32}
    for one, two in zip(flat.get_layer("conv").weights, model.get_layer("conv").weights, strict=True):
        np.testing.assert_array_equal(one, tf.cast(two, tf.float32))


@pytest.mark.parametrize(("wrap", "message"), [
    (lambda model: tfmot.sparsity.keras.prune_low_magnitude(model), r"strip_pruning\(model\)"),
    (lambda model: tfmot.quantization.keras.quantize_model(model), "give the float model as it was before"),
    (lambda model: tfmot.quantization.keras.quantize_annotate_model(model), "give the float model as it was before"),
], ids=["pruned", "quantized", "annotated"])
def test_what_tfmot_has_wrapped_is_refused_with_what_to_give(wrap, message):
    with pytest.raises(LoweringError, match=message):
        lower(wrap(plain()))


def test_a_stripped_model_is_lowered():
    model = plain()
    stripped = tfmot.sparsity.keras.strip_pruning(tfmot.sparsity.keras.prune_low_magnitude(model))
    np.testing.assert_array_equal(lower(stripped)(noise_for(model)), model(noise_for(model)))


class Loaded(layers.Layer):
    """Calls a function of a SavedModel, as a hub layer does."""

    def __init__(self, folder, **kwargs):
        super().__init__(**kwargs)
        self.loaded = tf.saved_model.load(folder)

    def call(self, x):
        return self.loaded.serve(x)


class Compiled(layers.Layer):
    """A helper under tf.function."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(4, 3)

    @tf.function
    def helper(self, x):
        return tf.nn.relu(self.conv(x))

    def call(self, x):
        return self.helper(x) * 2.0


def test_a_function_of_a_saved_model_is_refused_in_one_sentence(tmp_path):
    model, module = plain(), tf.Module()
    module.weights = model.variables
    module.serve = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((None, *SHAPE))])
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(LoweringError, match=r"^loaded \(Loaded\): it calls a function of a SavedModel") as error:
        lower(model_of(Loaded(str(tmp_path), name="loaded")))
    assert len(str(error.value)) < 250


def test_a_helper_under_tf_function_is_opened_like_any_other():
    model = model_of(Compiled(name="mine"))
    flat = lower(model)
    assert [layer.name for layer in flat.layers] == ["image", "mine_conv2d", "mine_relu", "mine_scale"]
    np.testing.assert_allclose(flat(noise_for(model)), model(noise_for(model)), rtol=1e-6)


def test_spectral_normalization_is_the_layer_it_normalizes():
    model = model_of(layers.SpectralNormalization(layers.Conv2D(4, 3, name="conv"), name="normed"))
    flat = lower(model)
    assert [type(layer) for layer in flat.layers[1:]] == [layers.Conv2D]
    np.testing.assert_array_equal(flat(noise_for(model)), model(noise_for(model), training=False))
