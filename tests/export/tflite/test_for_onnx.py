"""Dense layers on every rank keep their biases in ONNX, in float and in integers, and are integer products there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tf_keras
from tf_keras import layers

from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.tflite.convert import convert_tflite, layer_names
from edgeship.export.tflite.for_onnx import with_matrix_products
from edgeship.graph import read_onnx, read_tflite
from tests.support.answers import onnx_answers, tflite_answers
from tests.support.networks import noise_for, quantized_model

SPAN = (-4.0, 4.0)


def dense(units: int, **options: Any) -> layers.Dense:
    """With a bias that shows where it is lost."""
    return layers.Dense(units, bias_initializer=tf_keras.initializers.RandomNormal(0, 2, seed=1), **options)


def behind_pooling(x: Any) -> Any:
    return layers.Flatten()(layers.AveragePooling2D(8)(x))


def behind_convolution(x: Any) -> Any:
    return layers.Flatten()(layers.Conv2D(4, 3, name="conv")(x))


def tokens(x: Any) -> Any:
    x = layers.Reshape((64, 3))(x)
    x = dense(7, name="second")(dense(6, activation="relu", name="first")(x))
    return layers.Flatten()(x)


def images_and_gate(x: Any) -> Any:
    x = dense(6, activation="relu", name="pixels")(x)
    gate = dense(6, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.GlobalAveragePooling2D()(layers.Multiply()([x, gate]))


def mixer(x: Any) -> Any:
    x = layers.Reshape((64, 3))(x)
    y = dense(64, activation="relu", name="tokens")(layers.Permute((2, 1))(x))
    return layers.Flatten()(layers.Add()([x, layers.Permute((2, 1))(y)]))


def without_bias(x: Any) -> Any:
    return layers.Flatten()(layers.Dense(6, use_bias=False, name="plain")(layers.Reshape((64, 3))(x)))


FORMS: dict[str, Callable[[Any], Any]] = {
    form.__name__: form for form in (behind_pooling, behind_convolution, tokens, images_and_gate, mixer, without_bias)
}


def network(form: str) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(3)
    image = layers.Input((8, 8, 3), name="image")
    return tf_keras.Model(image, dense(5, activation="softmax", name="head")(FORMS[form](image)), name="net")


@pytest.mark.parametrize("form", FORMS)
def test_the_float_file_computes_what_keras_computes(form: str) -> None:
    model = network(form)
    noise = noise_for(model, count=8, seed=3)
    answers = onnx_answers(convert_onnx(convert_tflite(model), variant=None), noise)
    # Probabilities, whose logits are below 2^7 here: float32 rounding of a few hundred sums each, 2^-24 of 2^7.
    np.testing.assert_allclose(answers, model.predict(noise, verbose=0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_integer_file_has_every_bias_and_answers_as_the_tflite_file_does(form: str) -> None:
    model, _ = quantized_model(network(form), span=SPAN)
    tflite = convert_tflite(model.model, scheme="int8-ptq")
    content = convert_onnx(tflite, variant="u8u8", layers=layer_names(model.model))
    noise = noise_for(model.model, count=8, seed=3)
    codes = np.clip(np.rint(noise / ((SPAN[1] - SPAN[0]) / 255)), -128, 127).astype(np.int8)
    found = onnx_answers(content, (codes.astype(np.int16) + 128).astype(np.uint8)).astype(int) - 128
    # One product behind the other: each rounds to one of two neighbours.
    assert np.abs(found - tflite_answers(tflite, codes)).max() <= 2
    expected = sorted(
        item.bias.data.tobytes() for item in read_tflite(tflite, where=Path("a.tflite")).weighted_operations()
        if item.bias is not None and item.bias.data is not None
    )
    biases = sorted(
        item.bias.data.tobytes() for item in read_onnx(content, where=Path("a.onnx")).weighted_operations()
        if item.bias is not None and item.bias.data is not None
    )
    assert biases == expected


def test_no_matrix_product_is_left_to_the_runtimes_own_merging() -> None:
    """A MatMul with an Add behind it becomes a product of a float result in ONNX Runtime."""
    model, _ = quantized_model(network("mixer"), span=SPAN)
    content = convert_onnx(convert_tflite(model.model, scheme="int8-ptq"), variant="u8u8")
    kinds = [node.op_type for node in onnx.ModelProto.FromString(content).graph.node]
    assert kinds.count("Gemm") == 2 and "MatMul" not in kinds


def test_a_file_of_matrix_products_stays_as_it_is() -> None:
    image = layers.Input((8, 8, 3), name="image")
    model = tf_keras.Model(image, dense(5, name="head")(layers.GlobalAveragePooling2D()(image)), name="net")
    content = convert_tflite(model)
    assert with_matrix_products(content) is content
