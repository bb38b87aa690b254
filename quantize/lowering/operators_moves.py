"""Operators that put values in other places, known before any data come -> layers.

All of them are one move, or several one after the other: the positions of an axis in another order, some of them more
than once, some not at all (`flat_layers.Take`); in reverse order it is a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import (
    Call,
    Owned,
    Replacement,
    Result,
    as_array,
    is_tensor,
    static_shape,
)

WHOLE = (None, None, None)
BACKWARDS = (None, None, -1)


def _taken(tensor: Any, moves: dict[int, Sequence[int]], name: str) -> Result:
    """Take these positions of each axis."""
    for axis, positions in moves.items():
        tensor = Replacement(flat_layers.Take(positions, axis, name=name), tensor)
    return tensor


def _require_within_example(call: Call, axes: Iterable[int], operation: str) -> None:
    """Raise LoweringError where one of the axes is the batch's."""
    if 0 in axes:
        raise LoweringError(
            f"{call.scope}: tf.{operation} works along the batch, and on a device a batch is one example; use it along "
            "another axis"
        )


def _axes(value: Any, rank: int) -> list[int]:
    return [int(axis) % rank for axis in np.atleast_1d(as_array(value))]


def _lengths(tensor: Any, axes: Sequence[int]) -> list[int] | None:
    """Return the sizes of axes; None where one of them is open."""
    sizes = [tensor.shape[axis] for axis in axes]
    return None if None in sizes else sizes


def _integers(value: Any) -> np.ndarray | None:
    """Return constant integers as an array; None for what the network computes, and for a variable."""
    if value is None or isinstance(value, Owned) or any(map(is_tensor, value if isinstance(value, list) else [value])):
        return None
    array = as_array(value)
    return array if array.dtype.kind in "iu" else None


def _tile(call: Call) -> Result:
    tensor, counts = call["input"], static_shape(call["multiples"])
    if counts is None or len(counts) != tensor.shape.rank or None in counts:
        return None
    repeated = {axis: int(count or 0) for axis, count in enumerate(counts) if count != 1}
    _require_within_example(call, repeated, "tile")
    lengths = _lengths(tensor, list(repeated))
    if lengths is None or 0 in repeated.values():
        return None
    return _taken(tensor, {
        axis: list(range(length)) * repeated[axis] for axis, length in zip(repeated, lengths, strict=True)
    }, "tile")


def _repeat(call: Call) -> Result:
    tensor, counts = call["input"], _integers(call["repeats"])
    if counts is None:
        return None
    # Without an axis it repeats each number of the whole batch.
    (axis,) = [0] if call.get("axis") is None else _axes(call["axis"], tensor.shape.rank)
    _require_within_example(call, [axis], "repeat")
    lengths = _lengths(tensor, [axis])
    if lengths is None or counts.size not in (1, *lengths) or not counts.any():
        return None
    return _taken(tensor, {axis: np.repeat(np.arange(*lengths), counts.reshape(-1)).tolist()}, "repeat")


def _roll(call: Call) -> Result:
    tensor, shifts, axes = call["input"], _integers(call["shift"]), _integers(call["axis"])
    if shifts is None or axes is None:
        return None
    by_axis: dict[int, int] = {}
    for axis, shift in zip(_axes(axes, tensor.shape.rank), np.atleast_1d(shifts), strict=True):
        by_axis[axis] = by_axis.get(axis, 0) + int(shift)
    _require_within_example(call, by_axis, "roll")
    lengths = _lengths(tensor, list(by_axis))
    if lengths is None:
        return None
    moved = zip(by_axis.items(), lengths, strict=True)
    return _taken(tensor, {
        axis: np.roll(np.arange(length), shift).tolist() for (axis, shift), length in moved if shift % length
    }, "roll")


def _backwards(tensor: Any, axes: Sequence[int], name: str) -> Result:
    slices = [BACKWARDS if axis in axes else WHOLE for axis in range(1, tensor.shape.rank)]
    return Replacement(flat_layers.StridedSlice(slices, name=name), tensor) if axes else tensor


def _reverse(call: Call) -> Result:
    tensor, given = call["tensor"], _integers(call["axis"])
    if given is None:
        return None
    axes = _axes(given, tensor.shape.rank)
    _require_within_example(call, axes, "reverse")
    return _backwards(tensor, axes, "reverse")


def _gather(call: Call) -> Result:
    tensor, positions, axis = call["params"], _integers(call["indices"]), call.get("axis")
    if positions is None or not is_tensor(tensor) or call.get("batch_dims") or positions.size == 0:
        return None
    (axis,) = _axes(0 if axis is None else axis, tensor.shape.rank)
    _require_within_example(call, [axis], "gather")
    if positions.ndim == 0:
        slices = [WHOLE] * (axis - 1) + [int(positions)]
        return Replacement(flat_layers.StridedSlice(slices, name="gather"), tensor)
    taken = _taken(tensor, {axis: positions.reshape(-1).tolist()}, "gather")
    shape = call.outputs[0].shape[1:]
    if positions.ndim == 1 or None in shape:
        return taken if positions.ndim == 1 else None
    return Replacement(layers.Reshape(tuple(shape), name="reshape"), taken)


def _boolean_mask(call: Call) -> Result:
    tensor, mask, axis = call["tensor"], call["mask"], call.get("axis")
    if is_tensor(mask) or np.ndim(mask) != 1 or not np.any(mask):
        return None
    (axis,) = _axes(0 if axis is None else axis, tensor.shape.rank)
    _require_within_example(call, [axis], "boolean_mask")
    return _taken(tensor, {axis: np.flatnonzero(as_array(mask)).tolist()}, "mask")


def _broadcast_to(call: Call) -> Result:
    tensor, sizes = call["input"], static_shape(call["shape"])
    if sizes is None or len(sizes) != tensor.shape.rank or sizes[0] not in (None, -1, tensor.shape[0]):
        return None
    grown = {axis: size for axis, size in enumerate(sizes) if axis and size != tensor.shape[axis]}
    if any(size is None or size < 1 or tensor.shape[axis] != 1 for axis, size in grown.items()):
        return None
    return _taken(tensor, {axis: [0] * int(size or 0) for axis, size in grown.items()}, "broadcast")


# --- images -----------------------------------------------------------------------------------------------------------


def _flip(axis: int, name: str) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        return _backwards(call["image"], [axis], name) if call["image"].shape.rank == 4 else None

    return build


def _rot90(call: Call) -> Result:
    """Turn against the clock: a quarter is a transpose and the rows backwards."""
    tensor, turns = call["image"], _integers(call["k"])
    if tensor.shape.rank != 4 or turns is None:
        return None
    quarters = int(turns) % 4
    if quarters % 2:
        tensor = Replacement(layers.Permute((2, 1, 3), name="transpose"), tensor)
    slices = [BACKWARDS if quarters in turned else WHOLE for turned in ((1, 2), (2, 3))]
    return Replacement(flat_layers.StridedSlice(slices, name="turn"), tensor) if quarters else tensor


def _box(call: Call) -> tuple[int, int, int, int] | None:
    """(first row, first column, rows, columns) of a box in an image; None where one is not known."""
    keys = ("offset_height", "offset_width", "target_height", "target_width")
    numbers = [_integers(call[key]) for key in keys]
    if call["image"].shape.rank != 4 or any(number is None or number.ndim for number in numbers):
        return None
    top, left, rows, columns = (int(number) for number in numbers if number is not None)
    return top, left, rows, columns


def _crop(call: Call) -> Result:
    box = _box(call)
    if box is None:
        return None
    top, left, rows, columns = box
    slices = [(top, top + rows, None), (left, left + columns, None)]
    return Replacement(flat_layers.StridedSlice(slices, name="crop"), call["image"])


def _pad(call: Call) -> Result:
    tensor, box = call["image"], _box(call)
    lengths = _lengths(tensor, (1, 2)) if box is not None else None
    if box is None or lengths is None:
        return None
    top, left, rows, columns = box
    padding = ((top, rows - top - lengths[0]), (left, columns - left - lengths[1]))
    return Replacement(layers.ZeroPadding2D(padding, name="pad"), tensor)


def _patches(call: Call) -> Result:
    """Square patches side by side, that use up the image, are blocks of its pixels as channels."""
    tensor = call["images"]
    sizes, strides, rates = (_integers(call[key]) for key in ("sizes", "strides", "rates"))
    if sizes is None or strides is None or rates is None or tensor.shape.rank != 4 or None in tensor.shape[1:3]:
        return None
    block = int(sizes[1])
    if sizes.tolist() != [1, block, block, 1] or strides.tolist() != sizes.tolist() or (rates != 1).any():
        return None
    if block == 1:
        return tensor
    if any(size % block for size in tensor.shape[1:3]):
        return None
    return Replacement(flat_layers.DepthToSpace(block, inverse=True, name="patches"), tensor)


def _matrix_transpose(call: Call) -> Result:
    axes = list(range(1, call["a"].shape.rank))
    if len(axes) < 2:
        return None
    return Replacement(layers.Permute([*axes[:-2], axes[-1], axes[-2]], name="transpose"), call["a"])


MOVES: dict[str, Callable[[Call], Result]] = {
    "tile": _tile,
    "repeat": _repeat,
    "roll": _roll,
    "reverse": _reverse,
    "reverse_v2": _reverse,
    "gather": _gather,
    "boolean_mask": _boolean_mask,
    "broadcast_to": _broadcast_to,
    "linalg.matrix_transpose": _matrix_transpose,
    "image.flip_left_right": _flip(2, "flip"),
    "image.flip_up_down": _flip(1, "flip"),
    "image.rot90": _rot90,
    "image.crop_to_bounding_box": _crop,
    "image.pad_to_bounding_box": _pad,
    "image.extract_patches": _patches,
}
