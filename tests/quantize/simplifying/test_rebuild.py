from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.quantize.simplifying.rebuild import nodes_of, readers_of, rebuild
from tests.support.networks import noise_for

SHAPE = (4, 4, 3)


def shared_and_forked():
    """A layer called twice, a tensor used twice by one node, several inputs and outputs."""
    left, right = (layers.Input(SHAPE, name=name) for name in ("left", "right"))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    twice = layers.Add(name="twice")([conv(left), conv(left)])
    squared = layers.Multiply(name="squared")([twice, twice])
    return tf_keras.Model([left, right], [squared, layers.Add(name="sum")([twice, right])], name="model")


def operators():
    """Operators with tensors as keyword arguments and in nested lists, and one with two results."""
    image = layers.Input(SHAPE, name="image")
    low, high = tf.split(image, [1, 2], axis=-1)
    stacked = tf.concat(values=[high, low], axis=-1)
    attended = layers.MultiHeadAttention(1, 2, name="attention")(query=stacked, value=image)
    return tf_keras.Model(image, tf.where(attended > 0, x=attended, y=stacked), name="model")


def of_a_dict():
    inputs = {name: layers.Input(SHAPE, name=name) for name in ("second", "first")}
    return tf_keras.Model(inputs, layers.Subtract()([inputs["first"], inputs["second"]]), name="model")


MODELS = [shared_and_forked, operators, of_a_dict]


def same(node, args, kwargs):
    return node.layer(*args, **kwargs)


@pytest.mark.parametrize("build", MODELS)
def test_a_graph_built_anew_from_the_same_layers_is_the_same(build):
    model = build()
    again = rebuild(model, same)
    assert again.name == model.name and again.input_names == model.input_names
    noise = noise_for(model)
    arrays = noise if isinstance(noise, list) else [noise]
    given = tf.nest.pack_sequence_as(model._nested_inputs, arrays)
    for one, two in zip(tf.nest.flatten(model(given)), tf.nest.flatten(again(noise)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("build", MODELS)
def test_every_node_comes_once_and_after_those_it_reads(build):
    model, known = build(), set()
    nodes = list(nodes_of(model))
    known |= {id(tensor) for tensor in model.inputs}
    for node in nodes:
        assert {id(tensor) for tensor in node.keras_inputs} <= known
        known |= {id(tensor) for tensor in tf.nest.flatten(node.outputs)}
    assert len({id(node) for node in nodes}) == len(nodes)
    assert {id(tensor) for tensor in model.outputs} <= known


def test_readers_are_counted_once_per_use():
    model = shared_and_forked()
    readers = readers_of(model)
    twice, squared = (model.get_layer(name).output for name in ("twice", "squared"))
    named = [reader.layer.name for reader in readers[id(twice)]]
    assert sorted(named) == ["squared", "squared", "sum"]
    assert readers[id(squared)] == [None]


def test_a_replaced_node_is_read_in_its_place():
    model = shared_and_forked()

    def replay(node, args, kwargs):
        return args[0][0] if node.layer.name == "squared" else same(node, args, kwargs)

    changed, noise = rebuild(model, replay), noise_for(model)
    np.testing.assert_array_equal(changed(noise)[0], changed.get_layer("twice")(
        [model.get_layer("conv")(noise[0])] * 2
    ))


def test_every_input_and_result_passes_forward():
    model, seen = shared_and_forked(), []

    def forward(old, new):
        seen.append(old.node.layer.name)
        return new + 1.0 if old.node.layer.name == "right" else new

    changed, noise = rebuild(model, same, forward=forward), noise_for(model)
    assert sorted(seen) == ["conv", "conv", "left", "right", "squared", "sum", "twice"]
    np.testing.assert_array_equal(changed(noise)[1], model([noise[0], noise[1] + 1.0])[1])


def test_an_input_keeps_its_batch_and_dtype():
    image = layers.Input(SHAPE, batch_size=2, dtype="int32", name="image")
    again = rebuild(tf_keras.Model(image, layers.Reshape((48,))(image)), same)
    assert again.inputs[0].shape.as_list() == [2, *SHAPE] and again.inputs[0].dtype == tf.int32
