"""What Keras 2 says of its graphs in private, on a graph with a layer that is called twice."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import keras2


class Doubled(tf_keras.Model):
    """A model with a `call()` of its own."""

    def call(self, inputs, training=None):
        return 2 * inputs


@pytest.fixture(scope="module")
def model() -> tf_keras.Model:
    one, two = (layers.Input((4,), name=name) for name in ("one", "two"))
    shared = layers.Dense(4, name="shared")
    both = layers.Add(name="both")([shared(one), shared(two)])
    answer = layers.Dropout(0.5, name="drop")(both)
    return tf_keras.Model({"one": one, "two": two}, {"answer": answer}, name="pair")


def test_nodes_come_after_those_that_they_read(model: tf_keras.Model) -> None:
    seen: set[int] = set()
    names = []
    for node in keras2.ordered_nodes(model):
        if not isinstance(node.layer, layers.InputLayer):
            assert seen >= {id(tensor) for tensor in keras2.read_by(node)}
        seen |= {id(tensor) for tensor in tf.nest.flatten(node.outputs)}
        names.append(node.layer.name)
    assert sorted(names) == ["both", "drop", "one", "shared", "shared", "two"] and names[-2:] == ["both", "drop"]


def test_the_maker_and_the_arguments_of_a_tensor(model: tf_keras.Model) -> None:
    output = model.outputs[0]
    assert keras2.is_tensor(output) and not keras2.is_tensor(tf.zeros(3))
    assert keras2.maker_of(output) is keras2.node_of(output).layer is model.get_layer("drop")
    (both,) = keras2.read_by(keras2.node_of(output))
    ((first, second),), _ = keras2.arguments_of(keras2.node_of(both))
    assert [id(first), id(second)] == [id(tensor) for tensor in keras2.read_by(keras2.node_of(both))]
    ((one, two),), _ = keras2.arguments_with(keras2.node_of(both), {id(first): "a", id(second): "b"})
    assert (one, two) == ("a", "b")


def test_a_graph_keeps_the_structure_of_its_inputs_and_outputs(model: tf_keras.Model) -> None:
    assert keras2.is_graph(model) and keras2.computes_its_graph(model)
    assert not keras2.is_graph(Doubled())
    assert set(keras2.nested_inputs(model)) == {"one", "two"} and set(keras2.nested_outputs(model)) == {"answer"}
    given = {"two": np.full((1, 4), 2.0), "one": np.full((1, 4), 1.0)}
    assert [float(np.max(item)) for item in keras2.inputs_in_order(model, given)] == [1.0, 2.0]


def test_layers_inside_and_the_variables_of_each(model: tf_keras.Model) -> None:
    assert model in list(keras2.layers_of(model)) and model not in list(keras2.inner_layers(model))
    shared = model.get_layer("shared")
    assert shared in list(keras2.inner_layers(model)) and keras2.was_called(shared)
    trainable, others = keras2.own_variables(shared)
    assert [item.name for item in trainable] == ["shared/kernel:0", "shared/bias:0"] and others == []
    fresh = layers.Dense(4)
    keras2.rename(fresh, "fresh")
    assert fresh.name == "fresh" and not keras2.was_called(fresh)


def test_training_is_found_and_replaced(model: tf_keras.Model) -> None:
    drop, both = model.get_layer("drop"), model.get_layer("both")
    assert keras2.takes_training(drop) and not keras2.takes_training(both)
    assert keras2.training_of(drop, ("x",), {}) is None
    assert keras2.training_of(drop, ("x", True), {}) is True
    assert keras2.training_of(drop, ("x",), {"training": False}) is False
    assert keras2.with_training(drop, ("x",), {"training": True}, False) == (("x",), {"training": False})
    assert keras2.with_training(drop, ("x",), {"training": True}, None) == (("x",), {})


@pytest.mark.parametrize(("axis", "last"), [(-1, True), (None, True), (1, False)])
def test_the_axis_of_a_normalization(axis: int | None, last: bool) -> None:
    layer = layers.Normalization(axis=axis)
    layer.adapt(np.random.default_rng(0).random((8, 3, 5)).astype(np.float32))
    assert keras2.normalizes_last_axis(layer) == last
