"""Average poolings as depthwise products with one constant: the same network, and the same integers in both files."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers as L

from edgeship.model.flat_layers import Constant
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, quantized_model, randomize, run_tflite
from tests.support.two_files import (
    codes_of,
    largest_difference,
    layer_differences,
    onnx_answers,
    onnx_of,
    tflite_answers,
)

DEPTHWISE, MULTIPLY, MEAN, POOLING = L.DepthwiseConv2D, L.Multiply, L.GlobalAveragePooling2D, L.AveragePooling2D
BORDER = [DEPTHWISE, Constant, MULTIPLY]
# Image, window, strides, padding -> the layers that it becomes.
FORMS = {
    "2x2": ((8, 6, 3), 2, None, "valid", [DEPTHWISE]),
    "2x2 with a rest": ((9, 7, 3), 2, None, "valid", [DEPTHWISE]),
    "overlapping": ((9, 7, 3), 3, 2, "valid", [DEPTHWISE]),
    "same, all windows full": ((8, 6, 3), 2, 2, "same", [DEPTHWISE]),
    "same, borders": ((8, 6, 3), 3, 1, "same", BORDER),
    "same, one border": ((8, 7, 3), 3, 2, "same", BORDER),
    "same, rectangle": ((8, 7, 3), (2, 5), 1, "same", BORDER),
    "same, larger than the image": ((2, 3, 3), (5, 4), 1, "same", BORDER),
    "whole image": ((8, 6, 3), (8, 6), 1, "valid", [MEAN]),
    "whole image, same": ((4, 4, 3), 4, 4, "same", [MEAN]),
    "8x8": ((17, 16, 3), 8, None, "valid", [DEPTHWISE, DEPTHWISE]),
    "12x12": ((12, 24, 3), 12, None, "valid", [DEPTHWISE, DEPTHWISE]),
    "one row": ((1, 12, 3), (1, 2), None, "valid", [DEPTHWISE]),
    "one column, borders": ((11, 1, 3), (3, 1), (2, 1), "same", BORDER),
    "32 in one row": ((1, 64, 3), (1, 32), None, "valid", [DEPTHWISE, DEPTHWISE]),
    "open size": ((None, None, 3), 2, None, "valid", [DEPTHWISE]),
    "8x8, same": ((16, 16, 3), 8, None, "same", [DEPTHWISE, DEPTHWISE]),
    # Keras' depthwise convolution has one stride; along one column or one row it may be any.
    "2x1": ((9, 7, 3), (2, 1), None, "valid", [L.Reshape, DEPTHWISE, L.Reshape]),
    "1x3, same": ((5, 6, 3), (1, 3), None, "same", [L.Reshape, DEPTHWISE, L.Reshape]),
    "2x3": ((9, 6, 3), (2, 3), None, "valid", [L.Reshape, DEPTHWISE, L.Reshape, DEPTHWISE, L.Reshape]),
    "50x1": ((50, 4, 3), (50, 1), None, "valid", [L.Reshape, DEPTHWISE, DEPTHWISE, L.Reshape]),
    # What stays as it is: windows that cross the ends of rows, two strides that are not the window's, slow products.
    "2x3 with a rest": ((8, 7, 3), (2, 3), None, "valid", [POOLING]),
    "two strides": ((8, 6, 3), (2, 2), (1, 2), "valid", [POOLING]),
    "31x1": ((62, 4, 3), (31, 1), None, "valid", [POOLING]),
    "7x7": ((14, 14, 3), 7, None, "valid", [POOLING]),
    "open size, same": ((None, None, 3), 3, 2, "same", [POOLING]),
    "every second element": ((8, 6, 3), 1, 2, "valid", [POOLING]),
}


def pooled(shape, window, strides, padding):
    image = L.Input(shape, name="image")
    return tf_keras.Model(image, POOLING(window, strides, padding, name="pool")(image), name="model")


@pytest.mark.parametrize("name", FORMS)
def test_it_is_the_same_pooling_in_float(name):
    *form, expected = FORMS[name]
    flat = lower(pooled(*form))
    simple = simplify(flat)
    assert [type(layer) for layer in simple.layers[1:]] == expected
    assert simple.layers[-1].name == "pool"
    assert not simple.trainable_weights
    if None not in form[0]:
        assert_same_to_rounding(flat, simple, products=64)


@pytest.mark.parametrize("name", [
    "2x2", "overlapping", "same, borders", "same, rectangle", "whole image", "8x8", "2x3",
])
def test_its_two_files_round_alike(name, tmp_path):
    *form, _ = FORMS[name]
    quantized, noise = quantized_model(lower(pooled(*form)))
    tflite, graph = convert(quantized)
    assert not any(operation.kind == "AVERAGE_POOL_2D" for operation in graph.operations)
    onnx, codes = onnx_of(tflite), codes_of(tflite, {"image": noise})
    differences, skipped = layer_differences(tflite, onnx, codes, tmp_path)
    assert max(differences.values()) <= 1 and not skipped
    assert largest_difference(tflite_answers(tflite, codes), onnx_answers(onnx, codes)) <= 1
    (found,), (lsb,) = run_tflite(tflite, noise)
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=2.01 * lsb)


def test_its_constant_is_exact_and_nobody_s_weight():
    image = L.Input((8, 8, 3), name="image")
    x = POOLING(2, name="pool")(L.Conv2D(4, 1, activation="relu", name="conv")(image))
    model = tf_keras.Model(image, POOLING(3, 1, "same", name="smooth")(x), name="model")
    quantized, _ = quantized_model(lower(randomize(model)))
    account = quantized.account
    assert (account.quantized, account.added) == (("conv",), ("pool", "smooth_window"))
    assert "1 of 1 weighted layers (and 2 of constants)" in account.sentence
    assert [weight.shape.as_list() for weight in quantized.model.trainable_weights] == [[1, 1, 3, 4], [4]]
    _, graph = convert(quantized)
    for name, taps in (("pool/kernel", 4), ("smooth_window/kernel", 9)):
        kernel = graph.tensors[name]
        assert np.all(kernel.data == 127)
        np.testing.assert_allclose(kernel.scales, 1 / (127 * taps), rtol=1e-6)
    # Behind 3x3 windows 1, 3/2 and 9/4 are whole steps.
    (border,) = (item for item in graph.tensors.values() if item.data is not None and item.data.shape[1:] == (4, 4, 1))
    codes = (border.data.astype(int) - border.zero_points[0])[0, :, :, 0]
    assert set(codes.reshape(-1)) == {112, 168, 252}
    np.testing.assert_allclose(codes[1, 1] * border.scales[0], 1, rtol=1e-6)


def test_a_batch_norm_behind_it_is_folded_into_it():
    image = L.Input((8, 8, 3), name="image")
    x = L.BatchNormalization(name="norm")(POOLING(2, name="pool")(image))
    model = lower(randomize(tf_keras.Model(image, L.ReLU(name="act")(x), name="model")))
    simple = simplify(model)
    assert [type(layer) for layer in simple.layers[1:]] == [DEPTHWISE, L.ReLU]
    assert_same_to_rounding(model, simple, products=4)


def test_one_pooling_of_several_sizes_is_several_products():
    x = image = L.Input((16, 16, 3), name="image")
    pool = POOLING(2, name="pool")
    x = pool(L.Conv2D(4, 1, name="one")(pool(x)))
    largest = L.GlobalMaxPooling2D(name="largest")
    model = tf_keras.Model(image, L.Concatenate(name="both")([largest(x), largest(image)]), name="model")
    flat = lower(randomize(model))
    simple = simplify(flat)
    assert_same_to_rounding(flat, simple, products=8)
    assert sorted(layer.name for layer in simple.layers if type(layer) is DEPTHWISE) == ["pool", "pool_shape2"]
