"""Which tensors of a simplified model are rounded to integers, and which of them share one grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.core.text import some
from edgeship.model.keras2 import maker_of, read_by
from edgeship.quantize.lowering.float_forms import reason_of, require_float_form
from edgeship.quantize.lowering.operators import is_operator, operation_of
from edgeship.quantize.simplifying.rebuild import nodes_of, readers_of
from edgeship.quantize.simplifying.rewrites import activation_kind
from edgeship.quantize.simplifying.roles import ROUNDED, Role, fixed_range, role_of, upper_end

# What the TFLite converter fuses a ReLU into.
FUSED_BEFORE_RELU = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, layers.Add, layers.Multiply)
REFUSED_SHOWN = 5  # layers of a long list in a message


@dataclass(eq=False)
class Grid:
    """One scale and zero point, and the tensors whose values it must hold."""

    name: str
    members: list[Any] = field(default_factory=list)  # rounded to it, and computed, not moved from other members
    fixed: tuple[float, float] | None = None
    cap: float | None = None

    def place(self, tensor: Any) -> int | None:
        """Which of the members a tensor is; None for one that is moved, whose values are within theirs."""
        return next((place for place, member in enumerate(self.members) if member is tensor), None)


@dataclass(frozen=True)
class Grids:
    """The plan: id(tensor) -> its grid, and the tensors that must be rounded."""

    of: dict[int, Grid]
    rounded: frozenset[int]
    capped: frozenset[int]  # id(layer) of ReLUs whose upper end the grid is


def plan_grids(model: tf_keras.Model, kept: frozenset[str]) -> Grids:
    """Decide for every tensor of a simplified model.

    Args:
        kept: names of layers that stay in float.

    Raises:
        LoweringError: layers that integers cannot compute and that are not kept; all are named.
    """
    _refuse_unknown(model, kept)
    readers = readers_of(model)
    of = _share(model, kept)
    _concatenations(model, of)
    rounded = {id(tensor) for tensor in model.inputs}
    for node in nodes_of(model):
        for tensor in tf.nest.flatten(node.outputs):
            if _is_rounded(node, tensor, readers, kept):
                rounded.add(id(tensor))
    for grid in of.values():
        grid.members = [
            tensor for tensor in grid.members
            if id(tensor) in rounded and not _only_joins(maker_of(tensor), kept)
        ]
    grids = {id(grid): grid for grid in of.values()}.values()
    capped = frozenset().union(*(_cap(grid, kept) for grid in grids))
    return Grids(of=of, rounded=frozenset(rounded), capped=capped)


def _only_joins(layer: Any, kept: frozenset[str]) -> bool:
    """Whether a layer's result is within the range of what it joins, which has one grid with it."""
    return isinstance(layer, layers.Concatenate) and layer.name not in kept


def is_fused(tensor: Any, readers: dict[int, list[Any]], kept: frozenset[str]) -> bool:
    """Whether the only reader is a ReLU that becomes part of the operation that makes the tensor."""
    layer, used = maker_of(tensor), readers.get(id(tensor), [])
    return (
        type(layer) in FUSED_BEFORE_RELU and len(used) == 1 and used[0] is not None
        and type(used[0].layer) is layers.ReLU and role_of(used[0].layer) is Role.RANGE
        and (used[0].layer.name in kept) == (layer.name in kept)
    )


def _refuse_unknown(model: tf_keras.Model, kept: frozenset[str]) -> None:
    for node in nodes_of(model):
        if node.layer.name in kept:
            require_float_form(node)
    unknown = {
        node.layer.name: node for node in nodes_of(model)
        if role_of(node.layer) is None and node.layer.name not in kept
    }
    if not unknown:
        return
    for node in unknown.values():
        require_float_form(node)
    refused = [node.layer for node in unknown.values()]
    described = some([f"{layer.name} ({describe(layer)})" for layer in refused], shown=REFUSED_SHOWN)
    shown = refused[:REFUSED_SHOWN]
    reasons = "; ".join(dict.fromkeys(f"{describe(layer)}: {reason_of(layer, describe(layer))}" for layer in shown))
    listed = ", ".join(f'"{name}"' for name in unknown)
    raise LoweringError(
        f"{model.name}: integers cannot compute {described}. {reasons}. "
        f"Use another operation, or keep the layer in float: keep_float = [{listed}] (in [quantize] of the "
        "configuration, or as an argument of quantize_model)"
    )


def describe(layer: Any) -> str:
    """The operation of a layer, as its author would call it."""
    if is_operator(layer):
        return f"tf.{operation_of(layer)}"
    if isinstance(layer, layers.Activation):
        return f"activation {activation_kind(layer.activation)}"
    return type(layer).__name__


def _share(model: tf_keras.Model, kept: frozenset[str]) -> dict[int, Grid]:
    """A grid for every tensor; layers that move values hand theirs on. Concatenations come later."""
    of: dict[int, Grid] = {}
    results: dict[str, int] = {}  # a layer may have several: outputs, or calls
    for tensor in model.inputs:
        of[id(tensor)] = Grid(maker_of(tensor).name, [tensor])
    for node in nodes_of(model):
        layer = node.layer
        role = None if layer.name in kept else role_of(layer)
        for tensor in tf.nest.flatten(node.outputs):
            if role is Role.SAME and not isinstance(layer, layers.Concatenate):
                of[id(tensor)] = of[id(read_by(node)[0])]
                continue
            count = results[layer.name] = results.get(layer.name, 0) + 1
            name = layer.name if count == 1 else f"{layer.name}_call{count}"
            of[id(tensor)] = Grid(name, [tensor], fixed=fixed_range(layer) if role_of(layer) is Role.FIXED else None)
    return of


def _concatenations(model: tf_keras.Model, of: dict[int, Grid]) -> None:
    """Give the inputs of every concatenation its result's grid: that rounds once, where a change of grid rounds twice.

    One that is kept in float too: the TFLite converter puts its inputs on one grid before it is turned back to float.
    `simplify` saw to it that prescribed ranges meet no others here.
    """
    for node in nodes_of(model):
        if isinstance(node.layer, layers.Concatenate):
            for tensor in read_by(node):
                _merge(of, of[id(node.outputs)], of[id(tensor)])


def _merge(of: dict[int, Grid], into: Grid, grid: Grid) -> None:
    if into is grid:
        return
    into.members += grid.members
    into.fixed = into.fixed or grid.fixed
    for key, value in of.items():
        if value is grid:
            of[key] = into


def _is_rounded(node: Any, tensor: Any, readers: dict[int, list[Any]], kept: frozenset[str]) -> bool:
    used, layer = readers.get(id(tensor), []), node.layer
    if layer.name in kept:
        return any(reader is None or reader.layer.name not in kept for reader in used)
    if role_of(layer) is Role.SAME:
        # On its grid already, but the converter forgets that where two read it and one is an average pooling.
        return isinstance(layer, ROUNDED) or None in used or len(used) > 1
    return not is_fused(tensor, readers, kept)


def _cap(grid: Grid, kept: frozenset[str]) -> frozenset[int]:
    """Let a grid take over the upper end of the ReLUs that its values come from; returns those ReLUs.

    Either all of its members have the same end or none has one: `simplify` saw to that.
    """
    made_by = [maker_of(tensor) for tensor in grid.members]
    ends = {None if layer.name in kept else upper_end(layer) for layer in made_by}
    if len(ends) != 1 or None in ends:
        return frozenset()
    (grid.cap,) = ends
    return frozenset(map(id, made_by))
