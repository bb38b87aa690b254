"""Saturating readers: which values of a tensor all its readers take for the same, so that its range may leave them out.

    softmax          logits far below the largest one (edgeship/core/output_forms.py says how far)
    sigmoid, tanh    where the int8 result has reached its first or its last code
    ReLU, ReLU6      below 0, above 6
    hard sigmoid     below -2.5 and above 2.5: a product with constants, and a ReLU behind it
    x * gate(x)      below where the gate is 0: swish, hard swish

A range has a window only where every reader of every tensor on its grid has one; an output of the network has none, nor
has what a layer kept in float reads, a softmax excepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.quantize.grids import Grids, is_fused
from edgeship.quantize.simplifying.rebuild import nodes_of, readers_of
from edgeship.quantize.simplifying.rewrites import activation_kind
from edgeship.quantize.simplifying.roles import Role, role_of, upper_end
from edgeship.quantize.window import OPEN, SIGMOID, SOFTMAX, TANH, Window

# SAME layers of which a value that is moved to the window's end gives a result that is moved to it, or none at all.
ORDERED = (
    layers.Concatenate, layers.Cropping2D, layers.Flatten, layers.MaxPooling2D, layers.Permute, layers.Reshape,
    layers.ZeroPadding2D, flat_layers.DepthToSpace, flat_layers.Pad, flat_layers.StridedSlice,
    flat_layers.Take,
)
RESHAPES = (layers.Flatten, layers.Reshape)
KERNEL_STEP = 1 / 127  # of an int8 kernel: how far a constant factor may be from what it was


def windows_of(model: tf_keras.Model, grids: Grids, kept: frozenset[str]) -> dict[int, Window]:
    """Return id(grid) -> the window of each grid of a simplified model that has one."""
    readers = readers_of(model)
    tensors: dict[int, list[Any]] = {}
    for tensor in (*model.inputs, *(item for node in nodes_of(model) for item in tf.nest.flatten(node.outputs))):
        tensors.setdefault(id(grids.of[id(tensor)]), []).append(tensor)
    found = {}
    for grid in {id(grid): grid for grid in grids.of.values()}.values():
        if not grid.members or grid.fixed is not None:
            continue
        window = _joined(list(_read(tensors[id(grid)], readers, grids, kept)))
        if window.bounds_something:
            found[id(grid)] = window
    return found


def _read(
    tensors: list[Any], readers: dict[int, list[Any]], grids: Grids, kept: frozenset[str]
) -> Iterator[Window]:
    """The windows of all that read one grid's tensors from outside of it."""
    for tensor in tensors:
        if is_fused(tensor, readers, kept):
            continue
        for node in readers.get(id(tensor), []):
            if node is not None and _stays(node, tensor, grids, kept):
                continue
            window = OPEN if node is None else _window(node, tensor, readers, kept)
            # The largest logit is looked for along the last axis of what is rounded: that axis must reach the softmax.
            yield OPEN if window.softmax and not _same_rows(tensor, tensors) else window


def _stays(node: Any, tensor: Any, grids: Grids, kept: frozenset[str]) -> bool:
    """Whether a reader's result is on the same grid, ordered as before: its own readers tell."""
    layer = node.layer
    ordered = isinstance(layer, ORDERED) or (type(layer) is flat_layers.Reduce and layer.kind == "max")
    on_grid = grids.of[id(tf.nest.flatten(node.outputs)[0])] is grids.of[id(tensor)]
    return ordered and on_grid and layer.name not in kept


def _same_rows(tensor: Any, tensors: list[Any]) -> bool:
    """Whether the tensors between the rounded one and the softmax are reshapes that keep the last axis."""
    return len({item.shape[-1] for item in tensors}) == 1 and all(
        item is tensors[0] or isinstance(maker_of(item), RESHAPES) for item in tensors
    )


def _window(node: Any, tensor: Any, readers: dict[int, list[Any]], kept: frozenset[str]) -> Window:
    """What one reader tells apart."""
    layer = node.layer
    kind = "softmax" if type(layer) is layers.Softmax else activation_kind(getattr(layer, "activation", None))
    if kind == "softmax":
        return SOFTMAX
    if layer.name in kept:
        return OPEN
    if role_of(layer) is Role.FIXED:
        return {"sigmoid": SIGMOID, "tanh": TANH}.get(kind, OPEN)
    if type(layer) is layers.ReLU:
        return Window(low=0.0, high=upper_end(layer))
    if type(layer) is layers.Multiply:
        others = [other for other in read_by(node) if other is not tensor]
        gates = [_gate(other, tensor, readers, kept) for other in others]
        return Window(low=gates[0].low) if len(gates) == 1 else OPEN
    return _product(node, readers, kept)


def _gate(gate: Any, tensor: Any, readers: dict[int, list[Any]], kept: frozenset[str]) -> Window:
    """The window of a function of the tensor that is exactly 0 below it; open for any other tensor."""
    node = node_of(gate)
    if type(node.layer) is layers.ReLU and node.layer.name not in kept and read_by(node)[0] is not tensor:
        node = node_of(read_by(node)[0])
    if not read_by(node) or read_by(node)[0] is not tensor or activation_kind(
        getattr(node.layer, "activation", None)
    ) == "tanh" or len(read_by(node)) > 1:
        return OPEN
    return _window(node, tensor, readers, kept)


def _product(node: Any, readers: dict[int, list[Any]], kept: frozenset[str]) -> Window:
    """A product with one positive constant per channel, and the ReLU that is part of its operation."""
    layer, result = node.layer, tf.nest.flatten(node.outputs)[0]
    if type(layer) is not layers.DepthwiseConv2D or layer.kernel_size != (1, 1) or layer.depth_multiplier != 1:
        return OPEN
    if not is_fused(result, readers, kept):
        return OPEN
    factors = layer.depthwise_kernel.numpy().reshape(-1)
    if factors.min() <= 0:
        return OPEN
    shifts = layer.bias.numpy() if layer.use_bias else factors * 0
    cap = upper_end(readers[id(result)][0].layer)
    return Window(
        low=_wider(float(min(-shifts / factors)), up=False),
        high=None if cap is None else _wider(float(max((cap - shifts) / factors)), up=True),
    )


def _wider(end: float, *, up: bool) -> float:
    """An end that still holds where every factor is one step of its kernel off."""
    return end + abs(end) * KERNEL_STEP * (1 if up else -1)


def _joined(windows: list[Window]) -> Window:
    """What all readers together tell apart."""
    if not windows:
        return OPEN
    if any(item.softmax for item in windows):
        return SOFTMAX if all(item.softmax for item in windows) else OPEN
    lows, highs = [item.low for item in windows], [item.high for item in windows]
    return Window(
        low=None if None in lows else min(low for low in lows if low is not None),
        high=None if None in highs else max(high for high in highs if high is not None),
    )
