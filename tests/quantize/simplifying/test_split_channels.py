from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.simplify import simplify
from edgeship.quantize.simplifying.split_channels import with_whole_channels
from tests.support.networks import assert_same_to_rounding, randomize

HEADS = (6, 2, 4)


def bias(shape=(2, 4), *, broadcast=None, kind=flat_layers.ArrayShift, name="bias"):
    return kind(shape=shape, broadcast=broadcast, name=name)


def network(*behind, shape=HEADS):
    image = layers.Input((6, 3), name="image")
    x = layers.Reshape(shape, name="heads")(layers.Dense(8, name="dense")(image))
    for layer in behind:
        x = layer(x)
    return randomize(tf_keras.Model(image, x, name="model"))


def kinds(model):
    return [type(layer) for layer in model.layers[1:]]


@pytest.mark.parametrize("behind", [
    [lambda: bias()], [lambda: layers.Rescaling(0.5)], [lambda: bias(), lambda: layers.Rescaling(0.5, offset=1.0)],
    [lambda: flat_layers.ArrayScale(values=[[0.5], [2.0]], name="scale")],
    [lambda: flat_layers.ChannelShift(values=[1.0, 2.0, 3.0, 4.0], negative=True, name="shift")],
    [lambda: bias((2, 4), broadcast=(1, 1, 2, 4))],
], ids=range(6))
def test_what_stands_behind_a_split_of_channels_is_part_of_the_dense_layer(behind):
    model = network(*[make() for make in behind])
    turned = with_whole_channels(model)
    assert kinds(turned)[0] == layers.Dense and kinds(turned)[-1] == layers.Reshape
    assert_same_to_rounding(model, turned, products=6)
    assert kinds(simplify(model)) == [layers.Dense, layers.Reshape]
    assert_same_to_rounding(model, simplify(model), products=6)


def test_a_weight_stays_one():
    model = network(bias())
    turned = with_whole_channels(model)
    assert turned.get_layer("bias").trainable_weights
    np.testing.assert_array_equal(turned.get_layer("bias").weights[0], np.ravel(model.get_layer("bias").weights[0]))


@pytest.mark.parametrize("make", [
    lambda: network(flat_layers.ArrayShift(values=np.ones((6, 1, 1)).tolist(), name="by_row")),
    lambda: network(flat_layers.ChannelScale(values=[1.0, 2.0, 3.0], name="scale"), shape=(16, 3)),
    lambda: network(layers.ReLU(), layers.Rescaling(2.0)), lambda: network(bias((4,), kind=flat_layers.ChannelShift)),
], ids=["another axis", "no split of channels", "not behind it", "a weight for several channels"])
def test_what_fits_no_channel_stays_where_it_is(make):
    model = make()
    assert with_whole_channels(model) is model


def test_a_reshape_that_others_read_too_stays_in_front():
    image = layers.Input((6, 3), name="image")
    heads = layers.Reshape(HEADS, name="heads")(layers.Dense(8, name="dense")(image))
    model = tf_keras.Model(image, [bias()(heads), layers.ReLU(name="relu")(heads)], name="model")
    assert with_whole_channels(model) is model
