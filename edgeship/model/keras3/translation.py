"""One translation: which layer of Keras 2 stands for which of Keras 3, and which variable for which."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from edgeship.core.errors import LoweringError, in_one_line
from edgeship.model import keras2
from edgeship.model.keras3 import leaves
from edgeship.model.keras3.composite import Composite, Original, composite_class
from edgeship.model.keras3.functions import activation_of, constraint_of, regularizer_of
from edgeship.model.keras3.inside import (
    arguments_given,
    build_shapes,
    graph_of,
    inner_layers,
    inputs_in_order,
    layers_of,
    nested_inputs,
    own_variables,
    replay,
)
from edgeship.model.keras3.interception import in_place
from edgeship.model.keras3.wrappers import WRAPPERS

ACTIVATIONS = ("activation", "recurrent_activation")


class Translation:
    """Makes one layer of Keras 2 for each layer of Keras 3, and keeps the account of variables."""

    def __init__(self) -> None:
        self._twins: dict[int, Any] = {}  # id of a layer of Keras 3 -> the layer in its place
        self._originals: list[Any] = []  # keeps those ids from being reused
        self._variables: dict[int, Any] = {}  # id of a variable of Keras 3 -> the variable in its place
        self._constants: set[int] = set()  # ids of variables whose values became constants
        self.in_training: list[Any] = []  # layers of Keras 3 that are called with training=True

    def outputs_of(self, model: Any, inputs: Any) -> Any:
        """Return what a model computes of inputs of Keras 2, in the structure in which it gives its outputs."""
        graph = graph_of(model)
        if graph is not None:
            return self._replay(graph, inputs_in_order(graph, inputs))
        call = self.twin_of(model)
        return call(**inputs) if isinstance(inputs, dict) and not _takes_one(model) else call(inputs)

    def twin_of(self, layer: Any) -> Any:
        """Return the layer of Keras 2 in the place of one of Keras 3. Raises LoweringError."""
        if id(layer) not in self._twins:
            self._twins[id(layer)] = self._translated(layer)
            self._originals.append(layer)
        return self._twins[id(layer)]

    def scope(self) -> AbstractContextManager[Any]:
        """Return the scope in which code of Keras 3 runs on what stands in the places of its layers and variables."""
        return in_place(self._called, self._variables)

    def keep(self, theirs: list[Any], ours: list[Any], owner: Any) -> None:
        """Copy the weights of a layer of Keras 3 to those of the layer in its place. Raises LoweringError."""
        pairs = leaves.pairs_of_weights(theirs, ours)
        if pairs is None:
            raise LoweringError(
                f"{describe(owner)}: its weights {[tuple(item.shape) for item in theirs]} are not those of Keras 2, "
                f"{[tuple(item.shape) for item in ours]}; use another layer, or write its call() with keras.ops"
            )
        for variable, place in pairs:
            self._set(variable, place)

    def make_constant(self, variables: list[Any]) -> None:
        """Take note of variables of Keras 3 whose values a layer of Keras 2 has as constants."""
        self._constants |= {id(variable) for variable in variables}

    def copy_trainable(self, model: Any) -> None:
        """Let each layer of Keras 2 train, or not, as the one of Keras 3 does."""
        for layer in layers_of(model):
            if id(layer) in self._twins:
                self._twins[id(layer)].trainable = layer.trainable

    def require_every_variable(self, model: Any) -> None:
        """Raise LoweringError for a weight of the model that has no place in the translation."""
        known = set(self._variables) | self._constants
        lost = [variable for variable in model.weights if id(variable) not in known]
        if lost:
            raise LoweringError(
                f"{describe(model)}: {len(lost)} of {len(model.weights)} weights have no place in the translation to "
                f"Keras 2, the first is {lost[0].path!r}; give it to a layer that the model calls"
            )

    def _called(self, layer: Any) -> Callable[..., Any]:
        """Return what is called in the place of a layer, which takes note of `training=True`."""
        twin = self.twin_of(layer)

        def call(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("training") is True:
                self.in_training.append(layer)
            return twin(*args, **kwargs)

        return call

    # --- models and layers ----------------------------------------------------------------------------------------

    def _translated(self, layer: Any) -> Any:
        if graph_of(layer) is not None:
            return self._model(layer)
        kind = leaves.own_class(layer)
        made = None if kind is None else self._leaf(layer, kind)
        return self._composite(layer) if made is None else made

    def _model(self, model: Any) -> tf_keras.Model:
        graph = graph_of(model)
        inputs = keras.tree.map_structure(
            lambda tensor: tf_keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype), nested_inputs(graph)
        )
        if isinstance(model, keras.Sequential):  # one of Keras 2 too, which names of inner layers go by
            return tf_keras.Sequential([*keras.tree.flatten(inputs), *map(self.twin_of, model.layers)], name=model.name)
        return tf_keras.Model(inputs, self._replay(graph, keras.tree.flatten(inputs)), name=model.name)

    def _replay(self, graph: Any, inputs: list[Any]) -> Any:
        def answer(operation: Any) -> Any:
            if not isinstance(operation, keras.Layer):
                return lambda *args, **kwargs: _run(operation, args, kwargs)
            twin = self._called(operation)
            return lambda *args, **kwargs: twin(*args, **arguments_given(operation, kwargs))

        with self.scope():
            return replay(graph, inputs, answer)

    def _composite(self, layer: Any) -> Composite:
        with tf.name_scope(layer.name):
            parts = [self.twin_of(part) for part in inner_layers(layer)]
            made = composite_class(type(layer))(Original(layer, self.scope), parts)
            for variable in own_variables(layer):
                place = made.add_weight(
                    variable.name, shape=tuple(variable.shape), dtype=variable.dtype, initializer="zeros",
                    trainable=variable.trainable, regularizer=regularizer_of(variable.regularizer, scope=self.scope),
                    constraint=constraint_of(variable.constraint, scope=self.scope),
                )
                self._set(variable, place)
        made.built = True
        return made

    def _leaf(self, layer: Any, kind: type) -> Any:
        """Return the layer of Keras 2 that means the same as one of Keras 3's own; None where there is none."""
        twin = leaves.twin_class(kind)
        if twin is None:
            return None
        if kind.__name__ in WRAPPERS:
            return WRAPPERS[kind.__name__](layer, self)
        config = leaves.config_of(layer, kind, twin)
        if config is None:
            return None
        made = twin(**{**config, **self._functions(layer, config)})
        if layer.built and layer.weights:
            with tf.name_scope(layer.name):
                build(made, build_shapes(layer))
            self.keep(layer.weights, made.weights, layer)
        return made

    def _functions(self, layer: Any, config: dict[str, Any]) -> dict[str, Any]:
        """Return the activations, regularizers and constraints of a layer, for those of its settings that are such."""
        found = {}
        for key in config:
            if key in ACTIVATIONS:
                found[key] = activation_of(_held(layer, key), scope=self.scope, twin_of=self.twin_of)
            elif key.endswith("_regularizer"):
                found[key] = regularizer_of(_held(layer, key), scope=self.scope)
            elif key.endswith("_constraint"):
                found[key] = constraint_of(_held(layer, key), scope=self.scope)
        return found

    def _set(self, variable: Any, place: Any) -> None:
        place.assign(variable.numpy())
        self._variables[id(variable)] = place
        self._originals.append(variable)


def build(layer: Any, shapes: dict[str, Any]) -> None:
    """Make the weights of a layer of Keras 2 from the shapes that the one of Keras 3 was built with."""
    if isinstance(layer, tf_keras.layers.MultiHeadAttention):
        query, value, key = (shapes.get(f"{name}_shape") for name in ("query", "value", "key"))
        keras2.build_attention(layer, query, value, value if key is None else key)
    else:
        layer.build(*shapes.values())


def describe(layer: Any) -> str:
    """Return a layer or model of Keras 3 as messages name it."""
    return f"{layer.name} ({type(layer).__name__})"


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    try:
        return operation.call(*args, **kwargs)
    # Keras' own code, which may raise anything on tensors of another Keras.
    except Exception as error:
        raise LoweringError(
            f"{describe(operation)}: the operation could not be translated to TensorFlow's ({in_one_line(error)}); use "
            "another function of keras.ops, or a layer"
        ) from error


def _held(layer: Any, key: str) -> Any:
    return getattr(layer, key) if hasattr(layer, key) else getattr(layer, f"_{key}")


def _takes_one(model: Any) -> bool:
    return len(build_shapes(model)) == 1
