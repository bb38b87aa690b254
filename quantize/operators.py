"""Tensor operators inside a composite layer -> the standard Keras layer that means the same.

When a composite is traced, `a + b` or `tf.nn.relu(x)` becomes a TFOpLambda node. tfmot cannot quantize those, so
each is replaced by a layer through one table. What the table lacks is refused by name: nothing stays in float
silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras
from tf_keras import layers

from edgeship.errors import LoweringError


def is_operator(layer: layers.Layer) -> bool:
    """Whether a node is a bare TensorFlow operator rather than a layer."""
    return type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda")


def operation_of(layer: layers.Layer) -> str:
    """The operator's API name, for example "__operators__.add" or "nn.relu"."""
    return str(layer.get_config().get("function", type(layer).__name__))


def replace_operator(
    layer: layers.Layer, args: Any, kwargs: Any, scopes: dict[str, str], names: set[str]
) -> Any:
    """Replay one node of a flat graph; an operator is replaced by its standard layer.

    Args:
        scopes: operator layer's name -> name of the composite it came from (for a stable name).
        names: the names taken so far; the new layer's name is added.

    Raises:
        LoweringError: an operator, or a form of it, that no standard layer means.
    """
    if not is_operator(layer):
        return layer(*args, **kwargs)
    scope, operation = scopes.get(layer.name, "model"), operation_of(layer)
    values = {**dict(zip(_argument_names(operation), args, strict=False)), **kwargs}
    values.pop("name", None)
    build = OPERATORS.get(operation)
    if build is None:
        raise LoweringError(
            f"{scope}: the operator tf.{operation} has no standard layer that means the same; "
            f"known are {', '.join(OPERATORS)}. Use a Keras layer instead"
        )
    replacement = build(scope, values)
    if isinstance(replacement, tuple):
        made, inputs = replacement
        made._name = _unique(f"{scope}_{made.name.rstrip('0123456789').rstrip('_')}", names)
        return made(inputs)
    return replacement


def _argument_names(operation: str) -> tuple[str, ...]:
    return {
        "concat": ("values", "axis"),
        "math.reduce_mean": ("input_tensor", "axis", "keepdims"),
        "math.reduce_max": ("input_tensor", "axis", "keepdims"),
        "reshape": ("tensor", "shape"),
        "math.add_n": ("inputs",),
        "nn.relu": ("features",),
        "nn.relu6": ("features",),
    }.get(operation, ("x", "y"))


def _merge(make: Callable[[], layers.Layer], operation: str) -> Callable[[str, dict[str, Any]], Any]:
    def build(scope: str, values: dict[str, Any]) -> Any:
        first: Any = values.get("x")
        second: Any = values.get("y")
        for value in (first, second):
            if not tf_keras.backend.is_keras_tensor(value):
                raise LoweringError(
                    f"{scope}: {operation} with a constant or a variable ({type(value).__name__}) has no "
                    "standard layer that means the same; fold it into the layer before"
                )
        if first.shape.rank != second.shape.rank:
            raise LoweringError(
                f"{scope}: {operation} of tensors of rank {first.shape.rank} and {second.shape.rank}; "
                "reshape the smaller one to the same rank"
            )
        return make(), [first, second]

    return build


def _activation(name: str) -> Callable[[str, dict[str, Any]], Any]:
    def build(scope: str, values: dict[str, Any]) -> Any:
        tensor = values.get("features", values.get("x"))
        return layers.Activation(name, name=name), tensor

    return build


def _relu6(scope: str, values: dict[str, Any]) -> Any:
    return layers.ReLU(max_value=6.0, name="relu6"), values["features"]


def _concat(scope: str, values: dict[str, Any]) -> Any:
    return layers.Concatenate(axis=values["axis"], name="concat"), list(values["values"])


def _add_n(scope: str, values: dict[str, Any]) -> Any:
    return layers.Add(name="add"), list(values["inputs"])


def _pool(layer: Any, kind: str) -> Callable[[str, dict[str, Any]], Any]:
    def build(scope: str, values: dict[str, Any]) -> Any:
        tensor, axis = values["input_tensor"], values.get("axis")
        axes = sorted(a % tensor.shape.rank for a in ([axis] if isinstance(axis, int) else axis or []))
        if tensor.shape.rank != 4 or axes != [1, 2]:
            raise LoweringError(
                f"{scope}: tf.{kind} over axes {axis} of a rank-{tensor.shape.rank} tensor has no standard "
                "layer that means the same; only the spatial axes (1, 2) of an image have"
            )
        return layer(keepdims=bool(values.get("keepdims")), name="pool"), tensor

    return build


def _reshape(scope: str, values: dict[str, Any]) -> Any:
    shape = values["shape"]
    if not all(isinstance(size, int) for size in list(shape)[1:]):
        raise LoweringError(f"{scope}: tf.reshape to a shape that depends on the input; use layers.Reshape")
    return layers.Reshape(tuple(shape)[1:], name="reshape"), values["tensor"]


def _unique(name: str, names: set[str]) -> str:
    """`name`, or `name_2`, `name_3` ... when taken: in order of computation, so the same in every build."""
    candidate, count = name, 1
    while candidate in names:
        count += 1
        candidate = f"{name}_{count}"
    names.add(candidate)
    return candidate


OPERATORS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "__operators__.add": _merge(lambda: layers.Add(name="add"), "+"),
    "math.add": _merge(lambda: layers.Add(name="add"), "tf.add"),
    "math.add_n": _add_n,
    "math.multiply": _merge(lambda: layers.Multiply(name="multiply"), "*"),
    "nn.relu": _activation("relu"),
    "nn.relu6": _relu6,
    "math.sigmoid": _activation("sigmoid"),
    "math.tanh": _activation("tanh"),
    "nn.silu": _activation("swish"),
    "math.reduce_mean": _pool(layers.GlobalAveragePooling2D, "math.reduce_mean"),
    "math.reduce_max": _pool(layers.GlobalMaxPooling2D, "math.reduce_max"),
    "concat": _concat,
    "reshape": _reshape,
}
