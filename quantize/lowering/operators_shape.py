"""Operators that move, cut, join or pad values -> layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import (
    Call,
    Replacement,
    Result,
    as_array,
    as_slice,
    is_scalar,
    is_tensor,
    static_shape,
)


def _concat(call: Call) -> Result:
    tensors, axis = list(call["values"]), int(as_array(call["axis"]))
    if not all(map(is_tensor, tensors)) or axis % tensors[0].shape.rank == 0:
        return None
    return tensors[0] if len(tensors) == 1 else Replacement(layers.Concatenate(axis, name="concat"), tensors)


def _stack(call: Call) -> Result:
    tensors = list(call["values"])
    if not all(map(is_tensor, tensors)):
        return None
    rank = tensors[0].shape.rank + 1
    axis = int(call["axis"]) % rank
    shape = [*tensors[0].shape[1:axis], 1, *tensors[0].shape[axis:]]
    if axis == 0 or None in shape:
        return None
    grown = [Replacement(layers.Reshape(shape, name="expand"), tensor) for tensor in tensors]
    return grown[0] if len(grown) == 1 else Replacement(layers.Concatenate(axis, name="stack"), grown)


def _pad(call: Call) -> Result:
    tensor, mode = call["tensor"], str(call.get("mode", "CONSTANT")).upper()
    paddings = [tuple(int(size) for size in pair) for pair in as_array(call["paddings"])]
    value = call.get("constant_values", 0)
    if paddings[0] != (0, 0) or not is_scalar(value):
        return None
    value = float(as_array(value))
    if tensor.shape.rank == 4 and paddings[3] == (0, 0) and mode == "CONSTANT" and value == 0:
        return Replacement(layers.ZeroPadding2D((paddings[1], paddings[2]), name="pad"), tensor)
    if tensor.shape.rank == 3 and paddings[2] == (0, 0) and mode == "CONSTANT" and value == 0:
        return Replacement(layers.ZeroPadding1D(paddings[1], name="pad"), tensor)
    return Replacement(flat_layers.Pad(paddings, mode, value, name="pad"), tensor)


def _reshape(call: Call) -> Result:
    tensor = call["tensor"]
    sizes = static_shape(call["shape"])
    if sizes is None:
        return None
    own, rest = tensor.shape[1:], [size for size in sizes[1:] if size is not None]
    if len(rest) != len(sizes) - 1 or rest.count(-1) > 1:
        return None
    if sizes[0] == -1:
        # The batch is what is left over: only if the others hold exactly one example.
        if -1 in rest or None in own or math.prod(own) != math.prod(rest):
            return None
    elif sizes[0] is not None and sizes[0] != tensor.shape[0]:
        return None
    return Replacement(layers.Reshape(tuple(rest), name="reshape"), tensor)


def _to_output_shape(name: str, argument: str = "input") -> Callable[[Call], Result]:
    """expand_dims and squeeze: a reshape to the shape that the operator's output has."""

    def build(call: Call) -> Result:
        tensor, shape = call[argument], call.outputs[0].shape
        axes = np.atleast_1d(as_array(call["axis"])) if call.get("axis") is not None else np.zeros(1, int)
        rank = max(tensor.shape.rank, shape.rank)
        if any(axis % rank == 0 for axis in axes) or None in shape[1:]:
            return None
        return Replacement(layers.Reshape(tuple(shape[1:]), name=name), tensor)

    return build


def _transpose(call: Call) -> Result:
    permutation = call.get("perm")
    if permutation is None:
        return None
    axes = [int(axis) for axis in as_array(permutation)]
    return Replacement(layers.Permute(axes[1:], name="transpose"), call["a"]) if axes[0] == 0 else None


def _slice_layer(tensor: Any, slices: list[Any], name: str = "slice") -> Result:
    if all(item == (None, None, None) for item in slices):
        return tensor
    return Replacement(flat_layers.StridedSlice(slices, name=name), tensor)


def _getitem(call: Call) -> Result:
    tensor, items = call["tensor"], call["slice_spec"]
    items = list(items) if isinstance(items, tuple | list) else [items]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis in items:
        place = items.index(Ellipsis)
        items[place : place + 1] = [slice(None)] * (tensor.shape.rank - taken)
    slices: list[Any] = []
    for item in items:
        if item is None:
            continue
        item = as_slice(item)
        if isinstance(item, slice):
            ends = [None if end is None else static_shape([end]) for end in (item.start, item.stop, item.step)]
            if any(end is not None and end[0] is None for end in ends):
                return None
            slices.append(tuple(None if end is None else end[0] for end in ends))
        elif isinstance(item, int | np.integer):
            slices.append(int(item))
        else:
            return None
    if items[0] is None or slices[0] != (None, None, None):
        return None
    result = _slice_layer(tensor, slices[1:])
    if None not in items:
        return result
    shape = call.outputs[0].shape[1:]
    return None if None in shape else Replacement(layers.Reshape(tuple(shape), name="expand"), result)


def _slice(call: Call) -> Result:
    begin, size = static_shape(call["begin"]), static_shape(call["size"])
    if begin is None or size is None or begin[0] != 0 or size[0] not in (-1, None, call["input_"].shape[0]):
        return None
    ends: list[Any] = []
    for first, count in zip(begin[1:], size[1:], strict=True):
        if first is None or count is None:
            return None
        ends.append((first or None, None if count == -1 else first + count, None))
    return _slice_layer(call["input_"], ends)


def _split(call: Call) -> Result:
    tensor, sizes = call["value"], call["num_or_size_splits"]
    axis = int(as_array(call["axis"])) % tensor.shape.rank
    length = tensor.shape[axis]
    if axis == 0 or length is None:
        return None
    if np.ndim(sizes):
        known = static_shape(sizes)
        if known is None or None in known:
            return None
        counts = [int(size or 0) for size in known]
    else:
        counts = [length // int(as_array(sizes))] * int(as_array(sizes))
    rest = length - sum(count for count in counts if count != -1)
    counts = [rest if count == -1 else count for count in counts]
    starts = np.cumsum([0, *counts])
    return [
        _slice_layer(tensor, [(None, None, None)] * (axis - 1) + [(int(start), int(stop), None)], name="split")
        for start, stop in itertools.pairwise(starts)
    ]


def _unstack(call: Call) -> Result:
    tensor = call["value"]
    axis = int(call["axis"]) % tensor.shape.rank
    if axis == 0 or tensor.shape[axis] is None:
        return None
    before = [(None, None, None)] * (axis - 1)
    return [_slice_layer(tensor, [*before, index], name="unstack") for index in range(tensor.shape[axis])]


def _identity(argument: str) -> Callable[[Call], Result]:
    return lambda call: call[argument]


def _cast(call: Call) -> Result:
    """From one float type to another: the lowered network computes all of them in float32."""
    return call["x"] if tf.as_dtype(call["dtype"]).is_floating else None


SHAPES: dict[str, Callable[[Call], Result]] = {
    "concat": _concat,
    "stack": _stack,
    "pad": _pad,
    "reshape": _reshape,
    "expand_dims": _to_output_shape("expand"),
    "squeeze": _to_output_shape("squeeze"),
    "transpose": _transpose,
    "__operators__.getitem": _getitem,
    "slice": _slice,
    "split": _split,
    "unstack": _unstack,
    "identity": _identity("input"),
    "stop_gradient": _identity("input"),
    "ensure_shape": _identity("x"),
    "convert_to_tensor": _identity("value"),
    "cast": _cast,
}
