"""Products of two tensors, in every form in which their axes are named, and attention, which is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model import flat_layers
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, noise_for, quantized_model, randomize
from tests.support.two_files import (
    codes_of,
    largest_difference,
    layer_differences,
    onnx_answers,
    onnx_of,
    tflite_answers,
)

# Shapes of two inputs -> forms of their product.
FORMS = {
    ((6, 8), (8, 5)): [lambda a, b: a @ b, lambda a, b: tf.einsum("bij,bjk->bik", a, b), lambda a, b: tf.einsum(
        "...ij,...jk->...ki", a, b
    ), lambda a, b: layers.Dot((2, 1))([a, b])],
    ((6, 8), (5, 8)): [
        lambda a, b: tf.matmul(a, b, transpose_b=True), lambda a, b: tf.matmul(a, b, adjoint_b=True),
        lambda a, b: tf.einsum("btc,bsc->bst", a, b), lambda a, b: layers.Dot(axes=-1)([a, b]),
    ],
    ((8, 6), (8, 5)): [lambda a, b: tf.matmul(a, b, transpose_a=True), lambda a, b: layers.Dot(axes=1)([a, b])],
    ((8,), (8,)): [lambda a, b: layers.Dot(axes=1)([a, b]), lambda a, b: tf.einsum("bc,bc->b", a, b)[:, None]],
    ((8,), (5,)): [lambda a, b: tf.einsum("bi,bj->bij", a, b), lambda a, b: tf.einsum("bi,bj->bji", a, b)],
    ((8,), (5, 8)): [lambda a, b: layers.Dot((1, 2))([a, b]), lambda a, b: tf.einsum("bc,btc->bt", a, b)],
    ((3, 6, 8), (3, 8, 5)): [lambda a, b: tf.matmul(a, b), lambda a, b: tf.einsum("bhij,bhjk->bihk", a, b)],
    ((6, 2, 8), (5, 2, 8)): [
        lambda a, b: tf.einsum("bthd,bshd->bhts", a, b), lambda a, b: tf.einsum("bthd,bshd->btsh", a, b),
        lambda a, b: tf.einsum("...thd,...shd->...hts", a, b), lambda a, b: tf.einsum("bthd,bshd->bts", a, b),
    ],
    ((4, 3, 6), (4, 3, 5)): [
        lambda a, b: tf.einsum("bhwc,bhwd->bcd", a, b), lambda a, b: tf.einsum("bhwc,bhwd->bhwcd", a, b),
    ],
}


def of(form, shapes):
    one, two = (layers.Input(shape, name=name) for shape, name in zip(shapes, ("one", "two"), strict=True))
    result = layers.Lambda(lambda pair: form(*pair), name="own")([one, two])
    return tf_keras.Model([one, two], result, name="model")


@pytest.mark.parametrize("shapes", FORMS, ids=str)
def test_a_product_is_one_of_matrices_with_moves_around(shapes):
    for form in FORMS[shapes]:
        model = of(form, shapes)
        flat = lower(model)
        np.testing.assert_array_equal(model(noise_for(model)), flat(noise_for(model)))
        simple = simplify(flat)
        kinds = [type(layer) for layer in simple.layers if not isinstance(layer, layers.InputLayer)]
        assert kinds.count(flat_layers.MatMul) == 1
        assert set(kinds) <= {flat_layers.MatMul, layers.Permute, layers.Reshape}
        assert_same_to_rounding(flat, simple, products=96)


def test_every_form_is_an_integer_product_in_both_files(tmp_path):
    inputs, outputs = [], []
    for shapes, forms in FORMS.items():
        for form in forms:
            place = len(outputs)
            one, two = (layers.Input(shape, name=f"{name}{place}") for shape, name in zip(shapes, "ab", strict=True))
            product = layers.Lambda(lambda pair, form=form: form(*pair), name=f"own{place}")([one, two])
            inputs += [one, two]
            outputs.append(layers.Activation("linear", name=f"out{place}")(product))
    quantized, noise = quantized_model(lower(tf_keras.Model(inputs, outputs, name="model")), images=4)
    content, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    assert sum(operation.kind == "BATCH_MATMUL" for operation in graph.operations) == len(outputs)
    codes = codes_of(content, dict(zip(quantized.model.input_names, noise, strict=True)))
    answers = tflite_answers(content, codes)
    # Both multiply integers exactly, and scale the sums by 31 bits or in float32.
    assert largest_difference(onnx_answers(onnx_of(content), codes), answers) <= 1
    assert min(np.ptp(values.astype(int)) for values in answers.values()) > 40


@pytest.mark.parametrize("form", [
    lambda a, b: tf.einsum("bij,bjk->bijk", a, b)[..., 0] * 1.0, lambda a, b: tf.einsum("bij,bjk->bk", a, b),
    lambda a, b: layers.Dot((2, 1), normalize=True)([a, b]),
    lambda a, b: tf.matmul(a[:, 0], b[:, :, 0], transpose_b=True),
    lambda a, b: tf.einsum("bij,ajk->bik", a, b), lambda a, b: tf.matmul(a, b[:1]),
], ids=["no sum", "sum of one", "normalized", "of the batch", "over the batch", "of one example"])
def test_another_product_is_right_or_refused_by_name(form):
    try:
        flat = lower(of(form, ((6, 8), (8, 5))))
    except (LoweringError, ValueError):
        return
    try:
        insert_fake_quantization(flat, input_ranges=[None, None])
    except LoweringError as error:
        refusal = str(error)
        assert "integers cannot compute own_" in refusal or "it takes examples out of the batch" in refusal


def test_a_dot_of_two_calls_is_a_product_for_each():
    one, two = (layers.Input(shape, name=name) for shape, name in (((6, 8), "one"), ((5, 8), "two")))
    dot = layers.Dot(axes=2, name="dot")
    model = tf_keras.Model([one, two], [dot([one, two]), dot([one, two[:, ::-1]])], name="model")
    simple = simplify(lower(model))
    assert sum(isinstance(layer, flat_layers.MatMul) for layer in simple.layers) == 1
    assert_same_to_rounding(model, simple, products=8)
    model = tf_keras.Model([one, two], [dot([one, two]), dot([two, two])], name="model")
    with pytest.raises(LoweringError, match=r"integers cannot compute dot \(Dot\)"):
        insert_fake_quantization(lower(model), input_ranges=[None, None])


ROWS, IMAGE = (12, 8), (4, 4, 8)
ATTENTION = {
    "heads": (lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x, x), ROWS),
    "with dropout": (lambda x: layers.MultiHeadAttention(
        4, 3, value_dim=5, output_shape=6, dropout=0.1, use_bias=False, name="attention"
    )(x, x), ROWS),
    "to another": (lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x[:, :5], x, x[:, ::-1]), ROWS),
    "along rows": (lambda x: layers.MultiHeadAttention(2, 4, attention_axes=(1,), name="attention")(x, x), IMAGE),
    "dot": (lambda x: layers.Attention(name="attention")([x, x[:, 2:]]), ROWS),
    "dot, scaled": (lambda x: layers.Attention(use_scale=True, name="attention")([x[:, :3], x, x]), ROWS),
    "by hand": (lambda x: layers.Lambda(
        lambda t: tf.nn.softmax(tf.matmul(t, t, transpose_b=True) / np.sqrt(8), axis=-1) @ t, name="attention"
    )(x), ROWS),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_integer_products_and_a_softmax(name, tmp_path):
    function, shape = ATTENTION[name]
    image = layers.Input(shape, name="image")
    x = layers.Dense(8, name="before")(image)
    model = randomize(tf_keras.Model(image, layers.Dense(3, name="behind")(function(x)), name="model"))
    for weight in model.weights:  # as after training: attention that is not all on one place
        weight.assign(weight / 4)
    flat = lower(model)
    np.testing.assert_allclose(flat(noise_for(model)), model(noise_for(model)), rtol=1e-5, atol=1e-6)
    assert_same_to_rounding(flat, simplify(flat), products=200)
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} == {"int8", "int32"}
    kinds = [operation.kind for operation in graph.operations]
    assert (kinds.count("BATCH_MATMUL"), kinds.count("SOFTMAX")) == (2, 1)
    # Biases, and the root that scores are divided by, are part of the dense layers.
    assert "DEPTHWISE_CONV_2D" not in kinds or not isinstance(model.get_layer("attention"), layers.MultiHeadAttention)
    onnx, codes = onnx_of(content), codes_of(content, {"image": noise})
    found, untold = layer_differences(content, onnx, codes, tmp_path)
    assert max(found.values()) <= 1 and not untold
    # A step of a score moves a step of the softmax, and both the result by some.
    assert largest_difference(onnx_answers(onnx, codes), tflite_answers(content, codes)) <= 6


@pytest.mark.parametrize("function", [
    lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x, x, use_causal_mask=True),
    lambda x: layers.MultiHeadAttention(2, 4, name="attention")(x, x, attention_mask=tf.ones((1, 12, 12))),
    lambda x: layers.Attention(name="attention")([x, x], use_causal_mask=True),
    lambda x: layers.Attention(score_mode="concat", name="attention")([x, x]),
    lambda x: layers.Attention(dropout=0.1, name="attention")([x, x]),
    lambda x: layers.AdditiveAttention(name="attention")([x, x]),
], ids=["causal", "masked", "dot, causal", "concat", "dropout", "additive"])
def test_attention_with_more_is_refused_by_its_name(function):
    image = layers.Input(ROWS, name="image")
    flat = lower(tf_keras.Model(image, function(image), name="model"))
    with pytest.raises(LoweringError, match=r"compute attention \((MultiHead|Additive)?Attention\).*\[\"attention\"\]"):
        insert_fake_quantization(flat, input_ranges=[None])
