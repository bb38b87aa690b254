"""Operators that no layer means, as operations that integers have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.errors import LoweringError
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, randomize

IMAGE = (6, 6, 3)
FORMS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "abs": tf.abs, "abs by name": lambda x: tf.abs(x=x), "Python's abs": abs, "x ** 2": lambda x: x**2,
    "x ** 2.0": lambda x: tf.pow(x, 2.0), "x ** 3": lambda x: x**3, "x ** 4": lambda x: tf.math.pow(x=x, y=4),
}


def network(form: Callable[[tf.Tensor], tf.Tensor]) -> tf_keras.Model:
    image = layers.Input(IMAGE, name="image")
    x = form(layers.Conv2D(4, 3, name="before")(image))
    scores = layers.Dense(3, name="scores")(layers.GlobalAveragePooling2D()(x))
    return randomize(tf_keras.Model(image, scores, name="model"))


@pytest.mark.parametrize("form", FORMS)
def test_the_network_is_the_same_to_rounding(form: str) -> None:
    flat = lower(network(FORMS[form]))
    simple = simplify(flat)
    assert not any(type(layer).__name__ == "TFOpLambda" for layer in simple.layers)
    assert_same_to_rounding(flat, simple, products=3 * 3 * 3 + 16)


@pytest.mark.parametrize("form", ["abs", "x ** 2", "x ** 3"])
def test_both_files_are_integers(form: str) -> None:
    images = np.random.default_rng(0).random((64, *IMAGE), np.float32)
    quantized = edgeship.quantize_model(network(FORMS[form]), images)
    for format in ("tflite", "onnx"):
        assert edgeship.inspect_file(quantized.convert(format)).form == "int8"


@pytest.mark.parametrize("power", [0.5, 2.5, -1, 5])
def test_other_powers_have_no_integer_form(power: float) -> None:
    images = np.random.default_rng(0).random((8, *IMAGE), np.float32)
    with pytest.raises(LoweringError, match=r"integers cannot compute pow \(tf.math.pow\)"):
        edgeship.quantize_model(network(lambda x: tf.nn.relu(x) ** power), images)
