"""ReLUs and leaky ReLUs that are written out, in forms of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.kinks import without_kinks_by_hand
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, noise_for, quantized_model, randomize
from tests.support.two_files import codes_of, largest_difference, onnx_answers, onnx_of, tflite_answers

IMAGE = (6, 5, 4)
POSITIVE = [layers.ReLU]
LEAKY = [layers.LeakyReLU]


def positive(x):
    return tf.cast(x > 0, x.dtype)


FORMS = {
    "choice": (lambda x: tf.where(x > 0, x, x / 5), LEAKY),
    "choice turned": (lambda x: tf.where(tf.greater_equal(0.0, x), x / 5, x), LEAKY),
    "choice of doubles": (lambda x: tf.where(2 * x > 0, x, 0.1 * x), LEAKY),
    "choice by the function": (lambda x: tf.where(x > 0.5 * x, x, x / 3), LEAKY),
    "choice of numbers": (lambda x: x * tf.where(x < 0, 0.3, 1.0), LEAKY),
    "choice of none": (lambda x: tf.where(tf.logical_not(x > 0), 0.0, x / 1.0), POSITIVE),
    "gate": (lambda x: x * positive(x), POSITIVE),
    "gate before": (lambda x: tf.cast(x >= 0.0, tf.float32) * x, POSITIVE),
    "gate of integers": (lambda x: x * tf.cast(tf.cast(x > 0, tf.int32), tf.float32), POSITIVE),
    "two gates": (lambda x: x * positive(x) + 0.2 * x * (1 - positive(x)), LEAKY),
    "sign": (lambda x: x * (1 + tf.sign(x)) / 2, POSITIVE),
    "absolute": (lambda x: (x + tf.abs(x)) / 2, POSITIVE),
    "absolute leaky": (lambda x: 0.6 * x + 0.4 * tf.abs(x), LEAKY),
    "two parts": (lambda x: tf.nn.relu(x) - 0.2 * tf.nn.relu(-x), LEAKY),
    "two ends": (lambda x: tf.maximum(x, 0.0) + 0.2 * tf.minimum(x, 0.0), LEAKY),
    "largest": (lambda x: tf.maximum(x, x / 7), LEAKY), "smallest": (lambda x: tf.minimum(x, x / 0.4), LEAKY),
    "what is left": (lambda x: x + 0.9 * tf.nn.relu(-x), LEAKY),
    "steeper": (lambda x: tf.where(x > 0, x, 3 * x), LEAKY),
    "scaled": (lambda x: tf.where(x > 0, 2 * x, x / 2), [layers.LeakyReLU, layers.Rescaling]),
    "turned over": (lambda x: tf.where(x > 0, -x, x * -0.5), [layers.LeakyReLU, layers.Rescaling]),
    "linear": (lambda x: tf.where(x > 0, x / 4, 0.25 * x), [layers.Rescaling]),
    "fold": (lambda x: tf.where(x > 0, x, -x), [layers.Rescaling, layers.ReLU, layers.ReLU, layers.Add]),
    "lower part": (lambda x: tf.where(x > 0, 0.0, x / 2), [layers.Rescaling, layers.ReLU, layers.Rescaling]),
}


def of(function, *, shape=IMAGE, name="own"):
    image = layers.Input(shape, name="image")
    return lower(tf_keras.Model(image, layers.Lambda(function, name=name)(image), name="model"))


def kinds(model):
    return sorted(type(layer).__name__ for layer in model.layers[1:])


@pytest.mark.parametrize("form", FORMS)
def test_a_kink_by_hand_is_what_it_means(form):
    function, expected = FORMS[form]
    flat = of(function)
    found = without_kinks_by_hand(flat)
    assert kinds(found) == sorted(kind.__name__ for kind in expected)
    assert found.layers[-1].name == flat.layers[-1].name
    assert_same_to_rounding(flat, found, products=4)


@pytest.mark.parametrize("shape", [(7,), (9, 3), IMAGE])
def test_slopes_of_channels_by_hand_are_those_of_a_prelu(shape):
    slopes = np.linspace(-0.5, 1.5, shape[-1]).astype(np.float32)
    flat = of(lambda x: tf.where(x > 0, x, slopes * x), shape=shape)
    found = without_kinks_by_hand(flat)
    assert kinds(found) == ["PReLU"]
    np.testing.assert_array_equal(np.ravel(found.layers[-1].alpha), slopes)
    assert_same_to_rounding(flat, found, products=4)


class Slope(layers.Layer):
    """A slope that trains, without a comparison."""

    def build(self, shape):
        self.slope = self.add_weight("slope", shape=(), initializer="ones")

    def call(self, x):
        return tf.nn.relu(x) - self.slope * tf.nn.relu(-x)


def test_a_slope_that_trains_stays_a_weight():
    image = layers.Input(IMAGE, name="image")
    flat = lower(randomize(tf_keras.Model(image, Slope(name="own")(image), name="model")))
    assert without_kinks_by_hand(flat) is flat
    assert simplify(flat).trainable_weights


@pytest.mark.parametrize("function", [
    lambda x: tf.where(x > 0.5, x, x / 5), lambda x: tf.where(x > 0, x, x / 5 + 1),
    lambda x: tf.where(x[..., ::-1] > 0, x, x / 5), lambda x: x * tf.cast(x[..., :1] > 0, x.dtype),
    lambda x: x * tf.cast(tf.cast(x, tf.int32) > 0, tf.float32), lambda x: tf.cast(x > 0, tf.float32) + x,
    lambda x: tf.cast(tf.cast(tf.where(x > 0, 0.5, 1.5), tf.int32), tf.float32) * x, lambda x: x * x * positive(x),
], ids=range(8))
def test_another_choice_is_refused_by_name(function):
    flat = of(function)
    assert without_kinks_by_hand(flat) is flat
    with pytest.raises(LoweringError, match="integers cannot compute own_"):
        insert_fake_quantization(flat, input_ranges=[None])


@pytest.mark.parametrize("function", [
    lambda x: layers.LeakyReLU(0.1)(x), tf.nn.relu, tf.abs, lambda x: x + tf.nn.relu(x),
    lambda x: tf.nn.relu6(x) - 0.1 * tf.nn.relu(-x), lambda x: tf.maximum(x, -0.5 * x),
], ids=range(6))
def test_what_is_no_shorter_stays_as_it_is(function):
    flat = of(function)
    assert without_kinks_by_hand(flat) is flat


def test_what_others_read_too_is_still_there():
    image = layers.Input(IMAGE, name="image")

    def two(x):
        part = tf.nn.relu(-x)
        return tf.concat([tf.nn.relu(x) - 0.2 * part, part], -1)

    flat = lower(tf_keras.Model(image, layers.Lambda(two, name="own")(image), name="model"))
    found = without_kinks_by_hand(flat)
    assert kinds(found) == ["Activation", "Concatenate", "LeakyReLU", "Rescaling"]
    assert_same_to_rounding(flat, found, products=4)


def test_all_forms_are_integers_in_both_files():
    image = layers.Input(IMAGE, name="image")
    slopes = np.linspace(0, 1, 4).astype(np.float32)
    forms = {**{name: function for name, (function, _) in FORMS.items()}, "channels": lambda x: tf.where(
        x > 0, x, slopes * x
    )}
    outputs = []
    for place, function in enumerate(forms.values()):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv{place}")(image)
        y = layers.Lambda(function, name=f"own{place}")(y)
        outputs.append(layers.Activation("linear", name=f"out{place}")(layers.Conv2D(3, 1, name=f"last{place}")(y)))
    model = randomize(tf_keras.Model(image, outputs, name="model"))
    flat = lower(model)
    for name, one, other in zip(forms, model(noise_for(model)), flat(noise_for(model)), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    quantized, noise = quantized_model(flat, images=4)
    content, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} == {"int8", "int32"}
    codes = codes_of(content, {"image": noise})
    answers = tflite_answers(content, codes)
    # Two products and a change of grids, each of which may round a half the other way.
    assert largest_difference(onnx_answers(onnx_of(content), codes), answers) <= 2
    assert min(np.ptp(values.astype(int)) for values in answers.values()) > 50
