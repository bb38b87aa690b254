"""Functions with a kink at zero that are written out (`tf.where(x > 0, x, x / 5)`, `x * tf.cast(x > 0, x.dtype)`).

Such a function multiplies its input by one number where it is positive and by another where it is negative, and so do
scalings, sums, maxima and choices of such functions. So each tensor gets those two numbers, if it has them, and what
has them is one ReLU, leaky ReLU or PReLU in the place of comparisons and choices, for which ONNX Runtime has no integer
kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import OPERATOR, arguments_of, calls_of, is_tensor, maker_of
from edgeship.quantize.simplifying.kink_rules import FOREIGN, OPERANDS, RULES, Kinked, Rule
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, rebuild
from edgeship.quantize.simplifying.replacement import Replacement

# Two or three float32 numbers that are meant to add up to 1 (0.6 and 0.4) miss it by some units in the last place.
NEAR_ONE = 1e-6


def without_kinks_by_hand(flat: tf_keras.Model) -> tf_keras.Model:
    """Return the network with a layer for every such function; the model itself where there is none."""
    found = _found(flat)
    if not found:
        return flat
    copies = Copies()
    tensors: dict[int, Any] = {}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        kinked = found.get(id(node))
        if kinked is None:
            return call(copies, node.layer, args, kwargs)
        parts = Replacement(node.layer, lambda parts, tensor: _built(parts, tensor, kinked))
        outputs = parts.apply(tensors[id(kinked.base)])
        parts.load()
        return outputs

    def keep(old: Any, new: Any) -> Any:
        tensors[id(old)] = new
        return new

    made = rebuild(flat, replay, forward=keep)
    made.output_names = flat.output_names
    return made


def _found(flat: tf_keras.Model) -> dict[int, Kinked]:
    """Return by id the nodes whose results are such functions, and better computed as one."""
    known: dict[int, Kinked] = {}
    found: dict[int, Kinked] = {}
    for node in nodes_of(flat):
        rule = RULES.get(_kind(node.layer))
        if rule is None or len(calls_of(node.layer)) != 1:
            continue
        given = [_value(item, known) for item in _operands(node)]
        value = None if None in given else _of(node, rule, [item for item in given if item is not None])
        if value is None:
            continue
        known[id(node.outputs)] = value
        is_shorter = value.steps > 1 and _is_one_layer(value) and not value.trains
        if value.degree == 1 and (value.is_foreign or is_shorter):
            found[id(node)] = value
    return found


def _of(node: Any, rule: Rule, given: list[Kinked]) -> Kinked | None:
    bases = {id(item.base): item.base for item in given if item.base is not None}
    made = rule(node, given) if len(bases) == 1 else None
    if made is None or max(made.above.ndim, made.below.ndim) > 1:
        return None
    return replace(
        made, above=_one_if_equal(made.above), below=_one_if_equal(made.below), base=next(iter(bases.values())),
        steps=sum(item.steps for item in given) + 1,
        is_foreign=_kind(node.layer) in FOREIGN or any(item.is_foreign for item in given),
        trains=bool(node.layer.weights) or any(item.trains for item in given),
    )


def _one_if_equal(numbers: np.ndarray) -> np.ndarray:
    return numbers.reshape(-1)[0] if np.all(numbers == numbers.reshape(-1)[0]) else numbers


def _kind(layer: Any) -> Any:
    """Return what the rules go by: an operator's name, or a layer's class."""
    if type(layer) is not OPERATOR:
        return type(layer)
    return layer.get_config()["function"].removeprefix("compat.v1.")


def _operands(node: Any) -> list[Any]:
    args, kwargs = arguments_of(node)
    if type(node.layer) is not OPERATOR:
        return list(tf.nest.flatten(args))
    named = [kwargs[key] for key in ("condition", "x", "y") if key in kwargs]
    return [*args, *named][: OPERANDS.get(_kind(node.layer), 2)]


def _value(item: Any, known: dict[int, Kinked]) -> Kinked | None:
    """Return a tensor's numbers: those that were found, or 1 and 1 of itself; of a constant number the number."""
    if is_tensor(item):
        layer = maker_of(item)
        if type(layer) is flat_layers.Constant and layer.values is not None and not layer.values.any():
            return _constant(0.0)
        return known.get(id(item)) or Kinked(item, 1, np.ones(()), np.ones(()))
    array = np.asarray(item) if isinstance(item, int | float | np.ndarray | np.generic | tf.Tensor) else None
    if array is None or (array.size != 1 and array.any()):
        return None
    return _constant(float(array.reshape(-1)[0]) if array.size else 0.0)


def _constant(number: float) -> Kinked:
    return Kinked(None, 0, np.asarray(number, np.float64), np.asarray(number, np.float64))


# --- layers -----------------------------------------------------------------------------------------------------------


def _slope(value: Kinked) -> np.ndarray | None:
    """Return by how much steeper it is below than above; None where there it is no leaky ReLU, scaled."""
    if value.above.size != 1 or not value.above.any():
        return None
    slopes: np.ndarray = value.below / value.above.reshape(())
    return slopes if slopes.size > 1 or slopes.item() >= 0 else None


def _is_one_layer(value: Kinked) -> bool:
    return _slope(value) is not None and abs(value.above.item() - 1) < NEAR_ONE


def _built(parts: Replacement, tensor: Any, value: Kinked) -> Any:
    slope = _slope(value)
    if slope is None:
        return _sum_of_both(parts, tensor, value)
    factor = 1.0 if _is_one_layer(value) else value.above.item()
    name = "" if factor == 1 else "kink"
    if slope.size > 1:
        prelu = parts.layer(name, layers.PReLU, shared_axes=list(range(1, tensor.shape.rank - 1)) or None)
        bent = prelu(tensor)
        prelu.set_weights([slope.reshape(prelu.alpha.shape)])
    elif slope.item() == 0:
        bent = parts.layer(name, layers.ReLU)(tensor)
    elif abs(slope.item() - 1) < NEAR_ONE:
        bent, name = tensor, ""
    else:
        bent = parts.layer(name, layers.LeakyReLU, slope.item())(tensor)
    return bent if factor == 1 else parts.layer("", layers.Rescaling, factor)(bent)


def _sum_of_both(parts: Replacement, tensor: Any, value: Kinked) -> Any:
    """above * relu(x) - below * relu(-x)."""
    factors = {side: factor for side, factor in (("above", value.above), ("below", -value.below)) if factor.any()}
    terms = []
    for side, factor in factors.items():
        turned = tensor if side == "above" else parts.layer("minus", layers.Rescaling, -1.0)(tensor)
        last = side if len(factors) == 2 else ""
        if factor.size == 1 and factor.item() == 1:
            terms.append(parts.layer(last, layers.ReLU)(turned))
            continue
        positive = parts.layer(f"{side}_relu", layers.ReLU)(turned)
        terms.append(
            parts.layer(last, flat_layers.ChannelScale, values=factor)(positive) if factor.size > 1
            else parts.layer(last, layers.Rescaling, factor.item())(positive)
        )
    return parts.layer("", layers.Add)(terms) if len(terms) == 2 else terms[0]
