"""Padding that is not padding by zero, as parts of the tensor, or constants, joined with it.

LiteRT pads an integer tensor by mirroring and by any value, ONNX has no symmetric kind, and the way from one file to
the other (tf2onnx) loses which is which. Slices and a concatenation move integers in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model.flat_layers import Constant, StridedSlice

WHOLE = (None, None, None)


def joined_padding(layer: Any) -> Callable[..., Any] | None:
    """How to build a `Pad`; None where zeros are padded, or the size of an axis is not known."""
    shape = layer.get_input_at(0).shape
    padded = [axis for axis, pair in enumerate(layer.paddings) if any(pair)]
    if (layer.mode == "CONSTANT" and layer.value == 0) or None in shape[1:] or not padded:
        return None

    def build(parts: Any, tensor: Any) -> Any:
        for axis in padded:
            before, after = layer.paddings[axis]
            suffix = "" if axis == padded[-1] else f"axis{axis}"
            front, behind = (
                _filled(parts, tensor, axis, (before, after), layer.value) if layer.mode == "CONSTANT"
                else _mirrored(parts, tensor, axis, (before, after), symmetric=layer.mode == "SYMMETRIC")
            )
            tensor = parts.layer(suffix, layers.Concatenate, axis=axis)([*front, tensor, *behind])
        return tensor

    return build


def _mirrored(
    parts: Any, tensor: Any, axis: int, sizes: tuple[int, int], *, symmetric: bool
) -> tuple[list[Any], list[Any]]:
    """The slices of one row each that stand in front of a tensor and behind it."""
    length, edge = int(tensor.shape[axis]), 0 if symmetric else 1  # the edge itself is repeated, or not

    def row(place: int) -> Any:
        slices = [WHOLE] * (axis - 1) + [(place, place + 1, None)]
        return parts.layer(f"axis{axis}_row{place}", StridedSlice, slices)(tensor)

    before, after = sizes
    return (
        [row(edge + step) for step in reversed(range(before))],
        [row(length - 1 - edge - step) for step in range(after)],
    )


def _filled(
    parts: Any, tensor: Any, axis: int, sizes: tuple[int, int], value: float
) -> tuple[list[Any], list[Any]]:
    """Constants in front of a tensor and behind it."""

    def block(size: int, where: str) -> list[Any]:
        shape = [size if index == axis else int(tensor.shape[index]) for index in range(1, tensor.shape.rank)]
        filled = np.full(shape, value, np.float32)
        return [parts.layer(f"axis{axis}_{where}", Constant, filled)(tensor)] if size else []

    before, after = sizes
    return block(before, "before"), block(after, "after")
