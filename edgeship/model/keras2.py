"""Keras 2 from the inside: what its graphs, calls and layers do not say in public is read here and nowhere else.

A graph is made of nodes. A node is one call of a layer: `node.layer` is the layer, `node.outputs` are the results, and
the functions below say the rest. Keras 2 (tf_keras) is finished, so that its private names stay; a graph of another
Keras would need another file such as this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.src.engine.functional import Functional
from tf_keras.src.engine.keras_tensor import KerasTensor
from tf_keras.src.layers.convolutional.base_conv import Conv
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda
from tf_keras.src.saving.legacy.saved_model import json_utils

OPERATOR = TFOpLambda  # the class of an operator (`a + b`, `tf.abs(x)`) in a graph
CONVOLUTION = Conv  # the class that every convolution of Keras inherits from

# --- tensors and nodes --------------------------------------------------------------------------------------------


def is_tensor(value: Any) -> bool:
    """Return whether a value is a symbolic tensor of a graph."""
    return isinstance(value, KerasTensor)


def node_of(tensor: Any) -> Any:
    """Return the call that makes a tensor."""
    return tensor.node


def maker_of(tensor: Any) -> Any:
    """Return the layer that makes a tensor."""
    return tensor.node.layer


def inferred_value(tensor: Any) -> Any:
    """Return what Keras knows of an integer tensor that is computed from shapes; None where it knows nothing."""
    return getattr(tensor, "_inferred_value", None)


def read_by(node: Any) -> list[Any]:
    """Return the tensors that a call reads, in the order of its arguments, once per use."""
    tensors: list[Any] = node.keras_inputs
    return tensors


def arguments_of(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call: by position and by name."""
    return tuple(node.call_args), dict(node.call_kwargs)


def arguments_with(node: Any, tensors: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with other tensors in the places of those it reads: id of the old -> the new."""
    # map_arguments takes each tensor off a list, once per use.
    uses = {str(id(tensor)): [tensors[id(tensor)]] * len(read_by(node)) for tensor in read_by(node)}
    args, kwargs = node.map_arguments(uses)
    return args, kwargs


# --- models -------------------------------------------------------------------------------------------------------


def is_graph(model: Any) -> bool:
    """Return whether a model is a functional or sequential one, whose graph is there before it is called."""
    return bool(getattr(model, "_is_graph_network", False))


def computes_its_graph(model: Any) -> bool:
    """Return whether a model computes exactly its graph: no `call()` of its own."""
    return is_graph(model) and type(model).call in (Functional.call, tf_keras.Sequential.call)


def ordered_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of a graph in an order in which each comes after those that it reads."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


def nested_inputs(model: Any) -> Any:
    """Return the inputs of a graph in the structure (a dictionary, a list) in which the model takes them."""
    return model._nested_inputs


def nested_outputs(model: Any) -> Any:
    """Return the outputs of a graph in the structure in which the model gives them."""
    return model._nested_outputs


def inputs_in_order(model: Any, given: Any) -> list[Any]:
    """Return what a model is called with in the order of `model.inputs`."""
    tensors: list[Any] = model._flatten_to_reference_inputs(given)
    return tensors


def model_of_config(config: dict[str, Any], own: Mapping[str, Any]) -> Any:
    """Return the model of a configuration as a SavedModel or an .h5 file has it; `own` are the user's classes."""
    decoded = json_utils.decode(json.dumps(config))  # turns {"class_name": "__tuple__"} into tuples
    return tf_keras.models.model_from_config(decoded, custom_objects=dict(own))


# --- layers -------------------------------------------------------------------------------------------------------


def layers_of(layer: Any) -> Iterator[Any]:
    """Yield a layer or model, and every layer inside it."""
    yield from layer._flatten_layers()


def inner_layers(layer: Any) -> Iterator[Any]:
    """Yield every layer inside a layer or model."""
    yield from layer._flatten_layers(include_self=False)


def calls_of(layer: Any) -> list[Any]:
    """Return the nodes in which a layer is called."""
    return list(layer._inbound_nodes)


def was_called(layer: Any) -> bool:
    """Return whether a layer is part of a graph."""
    return bool(layer._inbound_nodes)


def own_variables(layer: Any) -> tuple[list[Any], list[Any]]:
    """Return the lists in which a layer holds the variables it made itself: those that train, and the others."""
    return layer._trainable_weights, layer._non_trainable_weights


def tracked_children(item: Any) -> dict[str, Any]:
    """Return what TensorFlow saves beneath a model, layer or list, by the names of a checkpoint."""
    return dict(item._trackable_children())


def raised_as_it_is(error: Exception) -> Exception:
    """Return an error that Keras passes on as it is; to the message of any other it adds lines about the call."""
    error._keras_call_info_injected = True  # type: ignore[attr-defined]
    return error


def rename(layer: Any, name: str) -> None:
    """Give a layer that is in no graph yet another name."""
    layer._name = name


def build_attention(layer: Any, query: Any, value: Any, key: Any) -> None:
    """Make the weights of a MultiHeadAttention for inputs of these shapes."""
    layer._build_from_signature(*(tf.TensorShape(shape) for shape in (query, value, key)))
    heads = (*query[:-1], layer._num_heads, layer._value_dim)
    for part, shape in (
        (layer._query_dense, query), (layer._key_dense, key), (layer._value_dense, value), (layer._output_dense, heads),
    ):
        with tf.name_scope(part.name):
            part.build(shape)


def normalizes_last_axis(layer: Any) -> bool:
    """Return whether a Normalization has one mean for everything, or one per element of the last axis."""
    return list(layer._keep_axis) in ([], [len(layer._broadcast_shape) - 1])


# --- the argument `training` --------------------------------------------------------------------------------------


def takes_training(layer: Any) -> bool:
    """Return whether the `call()` of a layer has an argument `training`."""
    return bool(layer._call_spec.expects_training_arg)


def training_of(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the `training` that a call gave, by position or by name; None where it gave none."""
    spec = layer._call_spec
    if not spec.arg_was_passed("training", args, kwargs, inputs_in_args=True):
        return None
    return spec.get_arg_value("training", args, kwargs, inputs_in_args=True)


def with_training(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with this `training`; None leaves it out."""
    args, kwargs = layer._call_spec.set_arg_value(
        "training", training, tuple(args), dict(kwargs), inputs_in_args=True, pop_kwarg_if_none=True
    )
    return args, kwargs
