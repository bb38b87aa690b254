from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.config import PER_CHANNEL, PER_TENSOR
from edgeship.quantize.weights import LARGEST_CODE, LEAST_WEIGHT, SymmetricWeights, WeightForm, with_quantized_weights
from tests.support.networks import EPS

KERNELS = {
    "conv": (lambda: layers.Conv2D(5, 3), (3, 3, 4, 5)),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), (3, 3, 2, 6)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (3, 3, 4, 2)),
    "dense": (lambda: layers.Dense(5), (4, 5)),
}


def quantizer_and_kernel(name, *, bits=8, scales=PER_CHANNEL):
    make, shape = KERNELS[name]
    generator = np.random.default_rng(0)
    # Channels of very different size, so that one scale for all would show.
    outputs = shape[2:] if name == "depthwise" else shape[-1:]
    kernel = generator.normal(size=shape) * 10.0 ** generator.uniform(-2, 2, outputs)
    return SymmetricWeights(make(), form=WeightForm(bits=bits, scales=scales)), kernel.astype(np.float32)


def limits(name, kernel, scales=PER_CHANNEL):
    """The largest |weight| of each output channel, or of all, to broadcast against the kernel."""
    if scales == PER_TENSOR:
        return np.abs(kernel).max()
    axes = {"dense": (0,), "depthwise": (0, 1)}.get(name, (0, 1, 2))
    return np.abs(kernel).max(axis=axes, keepdims=True)


@pytest.mark.parametrize("bits", LARGEST_CODE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scales", [PER_CHANNEL, PER_TENSOR])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_rounded_on_a_scale_of_its_channel_or_of_its_own(name, scales, training, bits):
    quantizer, kernel = quantizer_and_kernel(name, bits=bits, scales=scales)
    rounded = quantizer(tf.constant(kernel), training, {}).numpy()
    scale = limits(name, kernel, scales).astype(np.float64) / LARGEST_CODE[bits]
    codes = rounded / scale
    # A scale is within two units in the last place of the true one, and codes are at most 127.
    np.testing.assert_allclose(codes, np.rint(codes), rtol=0, atol=127 * 4 * EPS)
    assert np.abs(np.rint(codes)).max() == LARGEST_CODE[bits]
    # The nearest code, ties either way.
    np.testing.assert_array_less(np.abs(kernel / scale - np.rint(codes)), 0.5 + 127 * 4 * EPS)


@pytest.mark.parametrize("bits", LARGEST_CODE)
@pytest.mark.parametrize("scales", [PER_CHANNEL, PER_TENSOR])
@pytest.mark.parametrize("name", KERNELS)
def test_training_and_inference_differ_at_ties_alone(name, scales, bits):
    quantizer, kernel = quantizer_and_kernel(name, bits=bits, scales=scales)
    one, other = (quantizer(tf.constant(kernel), training, {}).numpy() for training in (True, False))
    scale = limits(name, kernel, scales).astype(np.float64) / LARGEST_CODE[bits]
    exact = np.abs(kernel / scale)
    is_tie = np.abs(exact - np.floor(exact) - 0.5) < 127 * 4 * EPS
    difference = np.abs(one - other) / scale
    np.testing.assert_array_less(difference[~is_tie], 127 * 4 * EPS)
    np.testing.assert_array_less(difference[is_tie], 1 + 127 * 4 * EPS)


def test_depthwise_channels_are_told_apart_in_the_order_of_the_result():
    """A depthwise kernel is (h, w, c, m), and channel c * m + i of the result is its [:, :, c, i]."""
    quantizer = SymmetricWeights(layers.DepthwiseConv2D(3, depth_multiplier=2), form=WeightForm())
    quantizer.keep_biases_below(100, biases=np.array([0.0, 0.0, 0.0, 1.0]), input_scale=1.0)
    kernel = np.zeros((1, 1, 2, 2), np.float32)
    kernel[0, 0] = [[0.3, 0.3], [0.3, 0.3]]
    # The least limit of the last channel is 127 * 1 / 100: 0.3 is code 30 there, which is 0.3 again; 0.307 is not.
    kernel[0, 0, 1, 1] = 0.307
    rounded = quantizer(tf.constant(kernel), False, {}).numpy()
    np.testing.assert_allclose(rounded[0, 0], [[0.3, 0.3], [0.3, 0.31]], rtol=4 * EPS * 127)


def test_the_gradient_passes_whole_in_training():
    quantizer, kernel = quantizer_and_kernel("conv")
    variable, upstream = tf.Variable(kernel), np.random.default_rng(1).normal(size=kernel.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantizer(variable, True, {}) * upstream)
    np.testing.assert_array_equal(tape.gradient(loss, variable), upstream)


def test_what_is_switched_off_is_left_as_it_is():
    quantizer, kernel = quantizer_and_kernel("conv")
    quantizer.enabled = False
    np.testing.assert_array_equal(quantizer(tf.constant(kernel), False, {}), kernel)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_a_channel_of_zeros_stays_zero(name, training):
    quantizer, kernel = quantizer_and_kernel(name)
    kernel[..., 1] = 0.0
    rounded = quantizer(tf.constant(kernel), training, {}).numpy()
    assert np.all(np.isfinite(rounded))
    np.testing.assert_array_equal(rounded[..., 1], 0.0)
    np.testing.assert_array_equal(quantizer(tf.zeros_like(kernel), training, {}), np.zeros_like(kernel))


def test_no_scale_is_finer_than_the_converter_makes_it():
    quantizer = SymmetricWeights(layers.Conv2D(1, 1), form=WeightForm())
    rounded = quantizer(tf.constant([[[[1e-8], [3e-9]]]]), False, {}).numpy()
    np.testing.assert_allclose(rounded.ravel(), np.rint([1e-8 * 127 / LEAST_WEIGHT, 1]) * LEAST_WEIGHT / 127, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv", "dense"])
@pytest.mark.parametrize("bits", LARGEST_CODE)
def test_no_bias_is_larger_than_the_code_it_may_have(name, bits):
    quantizer, kernel = quantizer_and_kernel(name, bits=bits)
    biases, input_scale, code = np.array([0.0, 1.0, -2.0, 1e3, 1e-3]), 0.02, 2**20
    quantizer.keep_biases_below(code, biases=biases, input_scale=input_scale)
    rounded = quantizer(tf.constant(kernel), False, {}).numpy()
    plain = limits(name, kernel).reshape(-1) / LARGEST_CODE[bits]
    least = np.abs(biases) / (code * input_scale)
    scale = np.maximum(plain, least * 127 / LARGEST_CODE[bits])
    assert np.all(np.abs(biases) / (input_scale * scale) <= code * (1 + 4 * EPS))
    codes = rounded / scale
    np.testing.assert_allclose(codes, np.rint(codes), rtol=0, atol=127 * 4 * EPS)


@pytest.mark.parametrize("name", KERNELS)
def test_a_wrapped_layer_computes_with_its_rounded_kernel_and_trains_the_whole_one(name):
    make, _ = KERNELS[name]
    layer = make()
    wrapped = with_quantized_weights(layer, form=WeightForm())
    image = layers.Input((4,) if name == "dense" else (8, 8, 4))
    model = tf_keras.Model(image, wrapped(image))
    assert wrapped.name == f"quant_{layer.name}"
    assert len(model.trainable_weights) == 2
    noise = np.random.default_rng(0).normal(size=(2, *image.shape[1:])).astype(np.float32)
    plain = make()
    plain.build(image.shape)
    bias, kernel = sorted(model.trainable_weights, key=lambda weight: weight.shape.rank)
    plain.set_weights([wrapped.quantize_config.quantizer(kernel, False, {}), bias])
    np.testing.assert_array_equal(model(noise), plain(noise))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(noise, training=True) ** 2)
    assert all(np.any(gradient != 0) for gradient in tape.gradient(loss, model.trainable_weights))


def test_a_wrapped_layer_that_does_not_train_does_not_train():
    layer = layers.Conv2D(3, 1)
    layer.trainable = False
    image = layers.Input((8, 8, 4))
    model = tf_keras.Model(image, with_quantized_weights(layer, form=WeightForm())(image))
    assert not model.trainable_weights
    assert sorted(weight.shape.rank for weight in model.weights) == [0, 1, 4]  # a counter of tfmot's, bias, kernel
