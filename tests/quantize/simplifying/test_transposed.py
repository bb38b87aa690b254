from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.model.flat_layers import DepthToSpace
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, randomize

FILTERS, CHANNELS = 3, 2


def model_of(shape, **options):
    image = layers.Input((*shape, CHANNELS), name="image")
    layer = layers.Conv2DTranspose(FILTERS, name="up", **options)
    return randomize(tf_keras.Model(image, layer(image), name="model"))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_it_is_a_convolution_and_a_rearrangement(kernel, stride, padding):
    # Every combination of sizes of rows and columns that parity and padding could tell apart.
    for shape in [(3, 4), (4, 5), (5, 3)]:
        model = model_of(shape, kernel_size=kernel, strides=stride, padding=padding)
        simple = simplify(model)
        kinds = {type(layer) for layer in simple.layers[1:]}
        assert kinds <= {layers.ZeroPadding2D, layers.Conv2D, DepthToSpace, layers.Cropping2D}
        assert (DepthToSpace in kinds) == (stride > 1) and simple.get_layer("up").weights
        assert simple.output_shape == model.output_shape
        assert_same_to_rounding(model, simple, products=kernel * kernel * CHANNELS)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_kernel_that_is_not_square(use_bias):
    model = model_of((3, 5), kernel_size=(2, 5), strides=2, padding="same", use_bias=use_bias)
    simple = simplify(model)
    assert len(simple.get_layer("up").weights) == 1 + use_bias
    assert_same_to_rounding(model, simple, products=10 * CHANNELS)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("options", [
    {"strides": (1, 2)}, {"strides": (2, 1)}, {"strides": (3, 2)}, {"strides": 2, "output_padding": 1},
    {"strides": (2, 3), "output_padding": (1, 1)}, {"dilation_rate": 2},
], ids=str)
def test_strides_that_differ_output_padding_and_dilation_are_convolutions_too(options, padding):
    for shape, kernel in [((3, 4), 3), ((4, 5), 4), ((5, 3), (2, 5))]:
        model = model_of(shape, kernel_size=kernel, padding=padding, **options)
        simple = simplify(model)
        assert not any(type(layer) is layers.Conv2DTranspose for layer in simple.layers)
        assert simple.output_shape == model.output_shape
        assert_same_to_rounding(model, simple, products=16 * CHANNELS)


def test_an_image_of_any_size_is_left_as_it_is():
    model = model_of((None, None), kernel_size=3, strides=2)
    assert [type(layer) for layer in simplify(model).layers[1:]] == [layers.Conv2DTranspose]


def test_a_called_twice_is_one_kernel():
    one, other = (layers.Input((4, 4, CHANNELS), name=name) for name in ("one", "other"))
    layer = layers.Conv2DTranspose(FILTERS, 3, strides=2, padding="same", name="up")
    model = randomize(tf_keras.Model([one, other], layers.Add()([layer(one), layer(other)]), name="model"))
    simple = simplify(model)
    assert len(simple.weights) == 2
    assert_same_to_rounding(model, simple, products=9 * CHANNELS)


def test_no_convolution_is_larger_than_it_must_be():
    """Each of the s x s phases needs the taps that fall on it and no more: a fourth of them with stride 2."""
    model = model_of((4, 4), kernel_size=4, strides=2, padding="valid")
    kernel = simplify(model).get_layer("up").kernel
    assert kernel.shape.as_list() == [2, 2, CHANNELS, 4 * FILTERS]
    assert np.all(kernel.numpy() != 0)
