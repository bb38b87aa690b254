"""Composite layers -> the same network as a flat functional graph of standard layers.

tensorflow-model-optimization only understands flat functional graphs of standard layers. A composite layer is
traced through its own `call()`: run on symbolic tensors, its inner layers become nodes of the graph, and its
tensor operators become nodes that `operators.py` turns into the standard layers that mean the same. No layer is
known by name. The weights are copied and the lowered model's outputs equal the original's bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.errors import LoweringError
from quantize.operators import is_operator, replace_operator

# Composites of composites are opened one level per pass; deeper nesting than this is a cycle.
MAX_DEPTH = 32


def lower(model: tf_keras.Model) -> tf_keras.Model:
    """The same network as a flat functional model of standard layers, with weights of its own.

    Args:
        model: a built functional or sequential Keras-2 model, of any composite layers.

    Returns:
        A functional model with the same input and output names, shapes and order; every layer is a standard
        Keras layer with one clear name. Outputs equal the original's bit for bit on the same input.

    Raises:
        LoweringError: a layer whose `call()` cannot be traced, an operator without a standard layer, or a
            variable that no standard layer owns; the message names the layer and the operation.
    """
    if not isinstance(model, tf_keras.Model) or not getattr(model, "_is_graph_network", False):
        raise LoweringError(
            f"{getattr(model, 'name', model)!r}: expected a functional or sequential Keras-2 model, found "
            f"{type(model).__name__}; build it from layers.Input(...) and tf_keras.Model(inputs, outputs)"
        )
    scopes: dict[str, str] = {}  # operator layer's name -> the composite whose call() it came from
    flat = model
    for _ in range(MAX_DEPTH):
        composites = [layer for layer in flat.layers if is_composite(layer)]
        if not composites:
            break
        flat = _rebuild(flat, lambda layer, args, kwargs: _open(layer, args, kwargs, scopes))
    else:
        raise LoweringError(f"{composites[0].name}: still a composite layer after {MAX_DEPTH} openings")
    _check_no_weight_is_lost(model, flat)
    names = {layer.name for layer in flat.layers}
    flat = _rebuild(flat, lambda layer, args, kwargs: replace_operator(layer, args, kwargs, scopes, names))
    return _with_own_layers(flat, name=model.name)


def is_composite(layer: layers.Layer) -> bool:
    """Whether a layer must be opened: a nested model, or any class that Keras itself does not define."""
    if isinstance(layer, tf_keras.Model):
        return True
    return not type(layer).__module__.startswith(("tf_keras.", "keras.src."))


Replay = Callable[[layers.Layer, Any, Any], Any]


def _rebuild(model: tf_keras.Model, replay: Replay) -> tf_keras.Model:
    """Walk the functional graph in its order of computation, replaying each node with `replay`."""
    tensors: dict[int, Any] = {}
    inputs = []
    for tensor in model.inputs:
        layer = tensor.node.layer
        fresh = layers.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=layer.name)
        tensors[id(tensor)] = fresh
        inputs.append(fresh)
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if isinstance(node.layer, layers.InputLayer):
                continue
            # map_arguments takes each tensor off a list, once per use.
            args, kwargs = node.map_arguments(
                {str(id(t)): [tensors[id(t)]] * len(node.keras_inputs) for t in node.keras_inputs}
            )
            outputs = replay(node.layer, args, kwargs)
            for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True):
                tensors[id(old)] = new
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    return tf_keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs, name=model.name)


def _open(layer: layers.Layer, args: Any, kwargs: Any, scopes: dict[str, str]) -> Any:
    """Replay one node; a composite is replaced by what its own `call()` does."""
    if not is_composite(layer):
        return layer(*args, **kwargs)
    # `call` and not `__call__`: the latter would make one opaque node of it. `training` stays symbolic: inner
    # layers that get None take it from the outer call, so dropout and batch norm keep both their meanings.
    kwargs = {key: value for key, value in kwargs.items() if not (key == "training" and value is None)}
    try:
        outputs = layer.call(*args, **kwargs)
    except Exception as error:
        raise LoweringError(
            f"{layer.name} ({type(layer).__name__}): its call() could not be traced on symbolic tensors "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}); "
            "use layers and tf operators without Python control flow on tensor values"
        ) from error
    for output in tf.nest.flatten(outputs):
        if not tf_keras.backend.is_keras_tensor(output):
            raise LoweringError(
                f"{layer.name} ({type(layer).__name__}): its call() does not compute its output from its input"
            )
        _remember_scope(output, layer.name, scopes, stop={id(t) for t in tf.nest.flatten((args, kwargs))})
    return outputs


def _remember_scope(tensor: Any, scope: str, scopes: dict[str, str], *, stop: set[int]) -> None:
    """Note for every operator between `stop` and `tensor` which composite layer it came from."""
    pending = [tensor]
    while pending:
        current = pending.pop()
        if id(current) in stop or not hasattr(current, "node"):
            continue
        stop.add(id(current))
        node = current.node
        if is_operator(node.layer):
            scopes.setdefault(node.layer.name, scope)
        pending.extend(node.keras_inputs)


def _check_no_weight_is_lost(model: tf_keras.Model, flat: tf_keras.Model) -> None:
    """A variable that a composite made itself is captured inside an operator: equal outputs, lost weight."""
    kept = {id(weight) for weight in flat.weights}
    lost = [weight for weight in model.weights if id(weight) not in kept]
    if not lost:
        return
    owner = next(
        (layer.name for layer in model.layers if any(weight is lost[0] for weight in layer.weights)), model.name
    )
    raise LoweringError(
        f"{owner}: the variable {lost[0].name!r} belongs to no standard layer, so it would neither train nor "
        f"be quantized ({len(lost)} such); give it a layer of its own"
    )


def _with_own_layers(flat: tf_keras.Model, *, name: str) -> tf_keras.Model:
    """A copy with fresh layers: the graph above shares layer objects (and old nodes) with the original."""
    copy = tf_keras.models.clone_model(flat)
    copy._name = name
    copy.set_weights(flat.get_weights())
    for layer in copy.layers:
        layer.trainable = flat.get_layer(layer.name).trainable
    return copy
