"""Keras 3 from the inside: what its layers, graphs and variables do not say in public is read here and nowhere else.

Tried with Keras 3.15. A newer version that names these things otherwise needs changes in this file alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.utils import naming

from edgeship.core.errors import ModelError

# --- graphs -------------------------------------------------------------------------------------------------------


def graph_of(model: Any) -> Any:
    """Return the graph that a model computes: of a sequential one the functional model inside; None where it has none.

    A model with a `call()` of its own computes something else than its graph.
    """
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return model._functional
    is_functional = isinstance(model, _FUNCTIONAL) and type(model).call is _FUNCTIONAL.call
    return model if is_functional else None


def nested_inputs(graph: Any) -> Any:
    """Return the inputs of a graph in the structure (a dictionary, a list) in which it takes them."""
    return graph._inputs_struct


def name_of_input(tensor: Any) -> str:
    """Return the name of the input layer that a tensor comes from."""
    return str(tensor._keras_history.operation.name)


def replay(graph: Any, inputs: list[Any], answer: Callable[[Any], Callable[..., Any]]) -> Any:
    """Compute a graph on other tensors.

    Args:
        inputs: in the order of `graph.inputs`.
        answer: what is called in the place of each layer or operation of the graph.

    Returns:
        The outputs, in the structure in which the graph gives them.
    """
    return graph._run_through_graph(inputs, operation_fn=answer)


def inputs_in_order(graph: Any, given: Any) -> list[Any]:
    """Return what a graph is called with in the order of `graph.inputs`."""
    if isinstance(given, dict) and not isinstance(graph._inputs_struct, dict):
        return [given[tensor.name] for tensor in graph.inputs]
    tensors: list[Any] = keras.tree.flatten(given)
    return tensors


def arguments_given(layer: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name of a call in a graph, with `training` only where it is True and was asked for.

    Keras 3 writes the default of `training` into the graph as if it had been given, and goes by what the model is
    called with wherever that says anything.
    """
    parameter = inspect.signature(layer.call).parameters.get("training")
    default = None if parameter is None else parameter.default
    asked = kwargs.get("training") is True and default is not True
    return kwargs if asked else {key: value for key, value in kwargs.items() if key != "training"}


# --- layers -------------------------------------------------------------------------------------------------------


def layers_of(layer: Any) -> list[Any]:
    """Return a layer or model, and every layer inside it, each before those that it holds."""
    layers: list[Any] = layer._flatten_layers()
    return layers


def inner_layers(layer: Any) -> list[Any]:
    """Return the layers that a layer holds itself."""
    return list(layer._layers)


def own_variables(layer: Any) -> list[Any]:
    """Return the variables that a layer made itself."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def build_shapes(layer: Any) -> dict[str, Any]:
    """Return the shapes that a layer was built with, by the names of the arguments of `build()`."""
    return dict(layer._build_shapes_dict or {})


def is_variable(value: Any) -> bool:
    """Return whether a value is a variable of Keras 3."""
    return isinstance(value, keras.Variable)


def stored(variable: Any) -> Any:
    """Return the variable of TensorFlow in which a variable of Keras keeps its value."""
    return variable._value


# --- this process -------------------------------------------------------------------------------------------------


@contextmanager
def bounded_variables(path: Path, limit_bytes: int) -> Iterator[None]:
    """Refuse a model whose layers declare far more than its file holds, before the memory is taken."""
    taken, original = 0, keras.Variable._initialize_with_initializer

    def initialize(variable: Any, initializer: Any) -> None:
        nonlocal taken
        taken += math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
        if taken > limit_bytes:
            raise ModelError(
                f"{path}: its layers have {taken:,} bytes of weights or more, the file holds no more than "
                f"{limit_bytes:,}; it is damaged, save it again"
            )
        original(variable, initializer)

    with changed(keras.Variable, "_initialize_with_initializer", initialize):
        yield


@contextmanager
def changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give a class or a module another attribute while this lasts."""
    there = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if there:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def reset_names() -> None:
    """Count the names that Keras makes up ("conv2d_3") from the beginning."""
    naming.reset_uids()


_FUNCTIONAL: Any = type(keras.Model(*[keras.Input((1,))] * 2))
