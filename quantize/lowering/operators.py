"""Tensor operators inside a composite layer -> the layer that means the same, bit for bit.

When a composite is traced, `a + b` or `tf.nn.relu(x)` becomes a TFOpLambda node, which nothing that quantizes or
exports knows. One table maps each to a Keras layer or to one of `flat_layers`. An operator, or a form of it, that the
table lacks stays in the graph as it is under a stable name: whether it may stay in float is decided later, by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_keras import layers

from edgeship.model.keras2 import is_tensor
from edgeship.quantize.lowering.operator_arguments import Call, Result
from edgeship.quantize.lowering.operators_arithmetic import ARITHMETIC
from edgeship.quantize.lowering.operators_choice import CHOICES, CONDITIONAL
from edgeship.quantize.lowering.operators_image import IMAGES
from edgeship.quantize.lowering.operators_moves import MOVES
from edgeship.quantize.lowering.operators_products import PRODUCTS
from edgeship.quantize.lowering.operators_shape import SHAPES

OPERATORS: dict[str, Callable[[Call], Result]] = {**ARITHMETIC, **CHOICES, **PRODUCTS, **SHAPES, **MOVES, **IMAGES}


def is_operator(layer: layers.Layer) -> bool:
    """Whether a node is a bare TensorFlow operator rather than a layer."""
    return type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda")


def operation_of(layer: layers.Layer) -> str:
    """The operator's API name, for example "__operators__.add" or "nn.relu"."""
    return str(layer.get_config().get("function", type(layer).__name__))


def unversioned_operation_of(layer: layers.Layer) -> str:
    """The same, whichever version of TensorFlow's API it was called from."""
    return operation_of(layer).removeprefix("compat.v1.")


def replacement_of(layer: layers.Layer, args: Any, kwargs: Any, *, scope: str, outputs: Any) -> Result:
    """What stands for one operator call.

    Args:
        layer: the TFOpLambda.
        args: its arguments; constants as numpy arrays, a composite's own variables as `Owned`.
        scope: the composite the operator stands in, for messages.
        outputs: the operator's symbolic outputs, for their shapes.

    Returns:
        A tensor, a `Replacement` or a list of such; None where no layer means the same.

    Raises:
        LoweringError: tensors that only broadcast against each other by accident of the batch size.
    """
    operation = unversioned_operation_of(layer)
    build = OPERATORS.get(operation)
    tensors = [item for item in tf.nest.flatten((args, kwargs)) if is_tensor(item)]
    chosen = tensors[1:] if operation in CONDITIONAL else tensors[:1]
    # Integer tensors are shapes on their way to a reshape, which reads their static values.
    if build is None or any(tensor.dtype != tf.float32 for tensor in chosen):
        return None
    try:
        bound = inspect.signature(layer.function).bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return build(Call(scope=scope, values=bound.arguments, outputs=tf.nest.flatten(outputs)))
