"""Walking a functional Keras graph node by node, and building it anew with some nodes replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import arguments_with, maker_of, ordered_nodes, read_by

# A node of the old graph and its arguments in the new one -> its outputs in the new one.
Replay = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
# Every tensor of the new graph on its way to the nodes that read it.
Pass = Callable[[Any, Any], Any]


def nodes_of(model: tf_keras.Model) -> Iterator[Any]:
    """The nodes of a functional model in an order in which each comes after those it reads; inputs left out."""
    return (node for node in ordered_nodes(model) if not isinstance(node.layer, layers.InputLayer))


def readers_of(model: tf_keras.Model) -> dict[int, list[Any]]:
    """id(tensor) -> the nodes that read it, once per use; a model output counts as read by None."""
    found: dict[int, list[Any]] = {}
    for node in nodes_of(model):
        for tensor in read_by(node):
            found.setdefault(id(tensor), []).append(node)
    for tensor in model.outputs:
        found.setdefault(id(tensor), []).append(None)
    return found


class Copies:
    """New layers for old ones, each made once however often it is called."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, layer: Any, make: Callable[[], Any]) -> Any:
        if id(layer) not in self._made:
            self._made[id(layer)] = make()
        return self._made[id(layer)]


def call(copies: Copies, layer: Any, args: Any, kwargs: Any) -> Any:
    """Replay a node with a copy of its layer, weights included."""
    made = copies.of(layer, lambda: type(layer).from_config(layer.get_config()))
    fresh = not made.built
    outputs = made(*args, **{key: value for key, value in kwargs.items() if key != "training"})
    if fresh and layer.weights:
        made.set_weights(layer.get_weights())
        made.trainable = layer.trainable
    return outputs


def rebuild(model: tf_keras.Model, replay: Replay, *, forward: Pass | None = None) -> tf_keras.Model:
    """The same functional graph with every node replayed by `replay(node, args, kwargs)`.

    Args:
        forward: called as `forward(old_tensor, new_tensor)` for every input and every node's output; what it
            returns is what later nodes read and what the model returns in that tensor's place.

    Returns:
        A model with the same input names, shapes and order, and the outputs in the same order.
    """
    tensors: dict[int, Any] = {}

    def keep(old: Any, new: Any) -> None:
        tensors[id(old)] = new if forward is None else forward(old, new)

    inputs = []
    for tensor in model.inputs:
        fresh = layers.Input(
            tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=maker_of(tensor).name
        )
        inputs.append(fresh)
        keep(tensor, fresh)
    for node in nodes_of(model):
        args, kwargs = arguments_with(node, tensors)
        outputs = replay(node, args, kwargs)
        for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True):
            keep(old, new)
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    return tf_keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
