"""Running a composite layer's own `call()` on symbolic tensors, and what is known about layers for that."""

from __future__ import annotations

import inspect
import traceback
from contextlib import nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import arguments_of, is_tensor, node_of, own_variables, read_by
from edgeship.quantize.lowering.kinds import describe
from edgeship.quantize.lowering.layer_copies import StandIn
from edgeship.quantize.lowering.operator_arguments import Owned
from edgeship.quantize.lowering.operators import is_operator

# TensorFlow's functions that update a variable.
ASSIGNMENTS = ("assign", "assign_add", "assign_sub")
LONGEST_REASON = 200  # characters of a foreign error; TensorFlow writes whole signatures into one line


def trace(
    layer: layers.Layer, args: Any, kwargs: Any, *, stand_in: StandIn | None = None
) -> tuple[Any, dict[int, Owned]]:
    """What a composite's `call()` does with symbolic tensors.

    Args:
        stand_in: for a layer that inherits from one of Keras': what its `super().call()` calls.

    Returns:
        Its symbolic outputs, and by id the constants of its operators that are variables of the layer in disguise:
        TensorFlow reads a variable on the left of an operator (`self.gamma * x`) before the graph sees it.

    Raises:
        LoweringError: it cannot be traced, or it updates a variable.
    """
    # Keras warns of every variable in an operator; each of them gets a layer of its own, or an error.
    logger, level = tf.get_logger(), tf.get_logger().level
    before = [(variable, variable.numpy()) for variable in _direct_variables(layer)]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        for variable in layer.variables:
            if variable.dtype.is_floating:
                tape.watch(variable)
        logger.setLevel("ERROR")
        compiled = not tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)  # so that a helper under @tf.function is traced like any other
        try:
            with nullcontext() if stand_in is None else stand_in.in_place():
                outputs = _call(layer, args, kwargs)
        finally:
            logger.setLevel(level)
            tf.config.run_functions_eagerly(not compiled)
    _check_nothing_was_assigned(layer, before)
    for output in tf.nest.flatten(outputs):
        if not is_tensor(output):
            raise LoweringError(f"{describe(layer)}: its call() does not compute its output from its input")
    return outputs, _variables_in_disguise(layer, outputs, tape, known=tf.nest.flatten((args, kwargs)))


def nodes_between(outputs: Any, known: set[int]) -> list[Any]:
    """The graph's nodes from the tensors in `known` to `outputs`, each after those it reads; iterative."""
    order: list[Any] = []
    done: set[int] = set()
    pending = [(node_of(tensor), False) for tensor in reversed(tf.nest.flatten(outputs)) if id(tensor) not in known]
    while pending:
        node, ready = pending.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        pending.append((node, True))
        pending.extend((node_of(tensor), False) for tensor in reversed(read_by(node)) if id(tensor) not in known)
    return order


def _call(layer: layers.Layer, args: Any, kwargs: Any) -> Any:
    # `call` and not `__call__`: the latter would make one opaque node of it. A `training` that nobody gave stays
    # open: inner layers that get None take it from the outer call, so dropout and batch norm keep both meanings. A
    # default of True counts in Keras only where no caller says otherwise, and inference does.
    function = getattr(layer.call, "python_function", layer.call)
    kwargs = {key: value for key, value in kwargs.items() if not (key in ("training", "mask") and value is None)}
    try:
        signature = inspect.signature(function)
        given = signature.bind_partial(*args, **kwargs).arguments
        asked = [name for name in ("training", "mask") if name in signature.parameters and name not in given
                 and signature.parameters[name].default in (inspect.Parameter.empty, True)]
        return function(*args, **kwargs, **dict.fromkeys(asked))
    except LoweringError:
        raise
    except Exception as error:
        frames = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        if frames & set(ASSIGNMENTS):
            raise _stateful(layer, "its call() assigns to a variable") from error
        # A user's own helper under tf.function is traced like any other: what is left is a function that was loaded.
        if any("/polymorphic_function/" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
            raise LoweringError(
                f"{describe(layer)}: it calls a function of a SavedModel, in which there are no layers any more that "
                "could be quantized; build the network from its layers and load their weights"
            ) from error
        reason = str(error).strip().splitlines()[0][:LONGEST_REASON] if str(error).strip() else "no message"
        raise LoweringError(
            f"{describe(layer)}: its call() could not be traced on symbolic tensors "
            f"({type(error).__name__}: {reason}); "
            "use layers and tf operators without Python control flow on tensor values"
        ) from error


def _direct_variables(layer: layers.Layer) -> list[Any]:
    """The variables a layer made itself, not those of its inner layers."""
    trainable, others = own_variables(layer)
    return [*trainable, *others]


def _check_nothing_was_assigned(layer: layers.Layer, before: list[tuple[Any, np.ndarray]]) -> None:
    changed = [(variable, old) for variable, old in before if not np.array_equal(variable.numpy(), old)]
    for variable, old in changed:
        variable.assign(old)
    if changed:
        raise _stateful(layer, f"its call() updates the variable {changed[0][0].name!r}")


def _stateful(layer: layers.Layer, what: str) -> LoweringError:
    return LoweringError(
        f"{describe(layer)}: a stateful layer, {what}; on a device the network keeps nothing between two images. "
        "Update it only `if training:`, or take it out of the model"
    )


def _variables_in_disguise(layer: layers.Layer, outputs: Any, tape: Any, known: list[Any]) -> dict[int, Owned]:
    found: dict[int, Owned] = {}
    variables = [variable for variable in layer.variables if variable.dtype.is_floating]
    for node in nodes_between(outputs, {id(item) for item in known}):
        if not is_operator(node.layer) or not variables:
            continue
        for value in tf.nest.flatten(arguments_of(node)):
            if not tf.is_tensor(value) or is_tensor(value) or not value.dtype.is_floating:
                continue
            gradients = tape.gradient(value, variables)
            sources = [(variable, gradient) for variable, gradient in zip(variables, gradients, strict=True)
                       if gradient is not None]
            if not sources:
                continue
            variable, gradient = sources[0]
            values = np.asarray(value)
            # Its own elements in its own order, each once: the variable itself, read or reshaped.
            if len(sources) == 1 and np.all(np.asarray(gradient) == 1) and np.array_equal(
                values.reshape(-1), np.asarray(variable).reshape(-1)
            ):
                found[id(value)] = Owned(variable, tuple(value.shape))
            else:
                found[id(value)] = Owned(
                    variable, tuple(value.shape), values, tuple(source for source, _ in sources)
                )
    return found
