from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.affine import Affine, Depthwise, affine_of
from tests.support.networks import EPS, noise_for, randomize

CHANNELS = 3


def called(layer, shape=(4, 5, CHANNELS)):
    """A model of one layer."""
    image = layers.Input(shape, name="image")
    return randomize(tf_keras.Model(image, layer(image), name="model"))


SCALINGS = {
    "norm": lambda: layers.BatchNormalization(),
    "norm of several replicas": lambda: layers.experimental.SyncBatchNormalization(),
    "norm without gamma": lambda: layers.BatchNormalization(scale=False),
    "norm without beta": lambda: layers.BatchNormalization(center=False),
    "norm of axis 3": lambda: layers.BatchNormalization(axis=3, epsilon=0.1),
    "rescaling": lambda: layers.Rescaling(2.0, offset=-1.0),
    "rescaling of channels": lambda: layers.Rescaling([1.0, 2.0, -3.0], offset=0.5),
    "rescaling as an image": lambda: layers.Rescaling(np.array([[[1.0, 2.0, -3.0]]]), offset=0.5),
    "normalization": lambda: layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.25, 1.0, 4.0]),
    "normalization, inverted": lambda: layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.25, 1, 4], invert=True),
    "normalization of all": lambda: layers.Normalization(axis=None, mean=2.0, variance=4.0),
    "divide by one number": lambda: flat_layers.DivideBy(6.0),
    "divide": lambda: flat_layers.DivideBy([1.0, 2.0, 6.0]),
    "scale": lambda: flat_layers.ChannelScale(shape=(CHANNELS,)),
    "shift": lambda: flat_layers.ChannelShift(values=[1.0, 2.0, 3.0], negative=True),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_a_scaling_says_what_it_does(name):
    model = called(SCALINGS[name]())
    affine, noise = affine_of(model.layers[1]), noise_for(model)
    expected = model(noise).numpy()
    # A handful of float32 operations, each off by half a unit in the last place of what it works on.
    atol = 8 * EPS * float(np.abs(affine.scale).max() * np.abs(noise).max() + np.abs(affine.offset).max())
    np.testing.assert_allclose(affine.scale * noise + affine.offset, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("layer", [
    layers.BatchNormalization(axis=1), layers.Normalization(axis=1, mean=np.zeros(4), variance=np.ones(4)),
    layers.Rescaling(np.ones((4, 5, 1))), layers.Conv2D(3, 1), layers.ReLU(),
], ids=["norm of rows", "normalization of rows", "one scale per pixel", "conv", "relu"])
def test_what_is_no_scaling_of_channels(layer):
    assert affine_of(called(layer).layers[1]) is None


def test_several_numbers_on_one_channel_are_no_scaling():
    assert affine_of(called(layers.Rescaling([1.0, 2.0, 3.0]), shape=(4, 5, 1)).layers[1]) is None


@pytest.mark.parametrize(("scale", "offset", "expected"), [
    ([2.0], [0.0], True), ([2.0, 2.0], [0.0, 0.0], True), ([-2.0], [0.0], False), ([0.0], [0.0], False),
    ([2.0], [1.0], False), ([2.0, 1.0], [0.0, 0.0], False),
])
def test_a_positive_scale_is_one_positive_number(scale, offset, expected):
    assert Affine(np.array(scale), np.array(offset)).is_positive_scale is expected


@pytest.mark.parametrize("shape", [(CHANNELS,), (5, CHANNELS), (4, 5, CHANNELS)])
def test_a_product_of_its_own_serves_every_call_of_the_layer(shape):
    model = called(layers.Rescaling([1.0, 2.0, -3.0], offset=0.5, name="own"), shape)
    affine, layer = affine_of(model.layers[1]), model.layers[1]
    product = Depthwise(affine, model.inputs[0].shape, name="own", trainable=True)
    one, other = (layers.Input(shape, name=name) for name in ("one", "other"))
    both = tf_keras.Model([one, other], [product.apply(one), product.apply(other)])
    assert [weight.shape.as_list() for weight in both.weights] == [[1, 1, CHANNELS, 1], [CHANNELS]]
    noise = noise_for(both)
    for values, found in zip(noise, both(noise), strict=True):
        np.testing.assert_allclose(found, layer(values), rtol=0, atol=8 * EPS * 3 * np.abs(values).max())
