"""Channels-first layers, layers of sequences and layers along other axes: as layers of channels-last images."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers as L

from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, noise_for, quantized_model, randomize, run_tflite

FIRST = {"data_format": "channels_first"}
IMAGE, ROW = (3, 9, 8), (12, 5)


def lowered(shape, *parts):
    x = image = L.Input(shape, name="image")
    for part in parts:
        x = part(x)
    return lower(randomize(tf_keras.Model(image, x, name="model")))


def names_of(model, kind):
    return [layer.name for layer in model.layers if type(layer) is kind]


NETWORKS = {
    "channels first": (IMAGE, [
        L.Conv2D(8, 3, strides=2, use_bias=False, name="conv1", **FIRST), L.BatchNormalization(axis=1), L.ReLU(),
        L.MaxPooling2D(2, padding="same", **FIRST), L.Conv2D(4, 2, activation="relu", name="conv2", **FIRST),
        L.GlobalAveragePooling2D(**FIRST), L.Dense(3, name="dense"),
    ], 1),
    "softmax over columns": (IMAGE, [L.Conv2D(8, 3, activation="softmax", name="conv1", **FIRST), L.Flatten()], 2),
    "all kinds": (IMAGE, [
        L.ZeroPadding2D(1, **FIRST), L.DepthwiseConv2D(3, name="conv1", **FIRST), L.UpSampling2D(2, **FIRST),
        L.SeparableConv2D(6, 3, name="conv2", **FIRST), L.Cropping2D(1, **FIRST), L.AveragePooling2D(2, **FIRST),
        L.PReLU(shared_axes=[2, 3]), L.BatchNormalization(axis=1), L.GlobalMaxPooling2D(**FIRST),
    ], 1),
    "transposes that cancel": ((9, 8, 3), [
        L.Permute((3, 1, 2)), L.Conv2D(4, 3, name="conv1", **FIRST), L.LeakyReLU(), L.Permute((2, 3, 1)),
        L.Conv2D(4, 3, name="conv2"),
    ], 0),
    "sequence": (ROW, [
        L.Conv1D(8, 3, padding="same", activation="relu", name="conv1"), L.MaxPooling1D(2), L.BatchNormalization(),
        L.Conv1D(6, 3, padding="causal", dilation_rate=2, name="conv2"), L.GlobalAveragePooling1D(),
    ], 0),
    "all kinds of sequences": (ROW, [
        L.SeparableConv1D(8, 3, strides=2, padding="same", name="conv1"), L.DepthwiseConv1D(3, name="conv2"),
        L.UpSampling1D(2), L.ZeroPadding1D((1, 2)), L.Cropping1D((1, 0)), L.AveragePooling1D(2), L.Dropout(0.5),
        L.GlobalMaxPooling1D(keepdims=True),
    ], 0),
    "sequence, channels first": ((5, 12), [
        L.Conv1D(8, 3, padding="valid", name="conv1", **FIRST), L.BatchNormalization(axis=1), L.Flatten(),
    ], 2),
    "softmax over rows": ((6, 5, 4), [L.Conv2D(4, 1, name="conv1"), L.Softmax(axis=1)], 2),
    "norm of rows": ((6, 5, 4), [L.BatchNormalization(axis=1), L.Conv2D(4, 3, name="conv1")], 2),
    "norm of rows and channels": ((6, 5, 4), [L.BatchNormalization(axis=[1, 3]), L.Conv2D(4, 3, name="conv1")], 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layout_of_its_own_costs_no_more_transposes_than_its_ends(name):
    shape, parts, transposes = NETWORKS[name]
    flat = lowered(shape, *parts)
    simple = simplify(flat)
    assert_same_to_rounding(flat, simple, products=3 * 3 * 8)
    assert len(names_of(simple, L.Permute)) == transposes
    assert {layer.name for layer in flat.layers if layer.name in ("conv1", "conv2")} <= {
        layer.name for layer in simple.layers
    }
    assert not {type(layer) for layer in flat.layers} & {L.Conv1D, L.MaxPooling1D, L.SeparableConv1D}
    assert not any(getattr(layer, "data_format", "") == "channels_first" for layer in flat.layers)


@pytest.mark.parametrize("name", ["channels first", "all kinds", "sequence", "norm of rows and channels"])
def test_its_file_computes_what_the_keras_model_computes(name):
    shape, parts, _ = NETWORKS[name]
    quantized, noise = quantized_model(lowered(shape, *parts))
    content, graph = convert(quantized)
    assert all(tensor.dtype in ("int8", "int32") for tensor in graph.tensors.values())
    (found,), (lsb,) = run_tflite(content, noise)
    # One step where Keras and the kernel round a half differently, and one more behind each of a few layers.
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=3.01 * lsb)


def test_a_branch_in_another_layout_is_transposed_once():
    image = L.Input((9, 8, 3), name="image")
    first = L.Permute((3, 1, 2), name="to_first")(image)
    left = L.Conv2D(4, 3, padding="same", name="left", **FIRST)(first)
    right = L.Conv2D(4, 1, name="right", **FIRST)(first)
    x = L.Concatenate(axis=1, name="join")([left, right])
    x = L.Add(name="sum")([x, L.Conv2D(8, 1, name="skip", **FIRST)(first)])
    model = lower(randomize(tf_keras.Model(image, L.GlobalAveragePooling2D(name="pool", **FIRST)(x), name="model")))
    assert not names_of(model, L.Permute)
    assert_same_to_rounding(model, simplify(model), products=27)


def test_a_layer_that_is_called_twice_is_still_one():
    conv = L.Conv1D(5, 3, padding="same", name="conv")
    flat = lowered(ROW, conv, L.ReLU(), conv)
    assert names_of(flat, L.Conv2D) == ["conv"]
    assert len(flat.trainable_weights) == 2


SLOPES = {
    "per channel": ((6, 5, 4), [1, 2]), "one": ((6, 5, 4), [1, 2, 3]), "per element": ((6, 5, 4), None),
    "per pixel": ((6, 5, 4), [3]), "of a vector": ((6,), None), "of a sequence": ((6, 4), [1]),
}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("largest", [0.9, 1.5])
def test_a_prelu_is_made_of_integer_operations(name, largest):
    shape, shared = SLOPES[name]
    model = lowered(shape, L.PReLU(shared_axes=shared, name="slope"))
    slopes = np.random.default_rng(0).uniform(-0.3, largest, model.get_layer("slope").alpha.shape)
    model.get_layer("slope").set_weights([slopes.astype(np.float32)])
    simple = simplify(model)
    assert_same_to_rounding(model, simple, products=2)
    assert not names_of(simple, L.PReLU)
    quantized, noise = quantized_model(model)
    content, _ = convert(quantized)
    (found,), (lsb,) = run_tflite(content, noise)
    np.testing.assert_allclose(found, quantized.model(noise), rtol=0, atol=2.01 * lsb)


@pytest.mark.parametrize(("layer", "shape"), [
    (L.CenterCrop(4, 3), (6, 5, 2)), (L.RandomCrop(12, 10), (6, 5, 2)), (L.Resizing(6, 15), (6, 5, 2)),
], ids=["center crop", "random crop", "resizing"])
def test_crops_and_sizes_by_whole_factors_are_simple_layers(layer, shape):
    model = lowered(shape, layer)
    simple = simplify(model)
    assert {type(item) for item in simple.layers[1:]} <= {L.Cropping2D, L.UpSampling2D}
    noise = noise_for(model)
    np.testing.assert_allclose(simple(noise), model(noise), rtol=0, atol=1e-5)
