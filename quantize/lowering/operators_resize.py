"""Operators that resize images -> layers: today's, and TensorFlow 1's with corners on corners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import Call, Replacement, Result, static_shape

METHODS = {"bilinear": "bilinear", "nearest": "nearest", "0": "bilinear", "1": "nearest"}  # TensorFlow 1 counts them


def _resize(call: Call) -> Result:
    sizes, method = _sizes(call), _method(call)
    if sizes is None or method is None or call.get("preserve_aspect_ratio") or call.get("antialias"):
        return None
    tensor, (height, width), size = call["images"], *sizes
    if (height, width) == size:
        return tensor
    if size[0] % height == 0 and size[1] % width == 0:
        factors = (size[0] // height, size[1] // width)
        return Replacement(layers.UpSampling2D(factors, interpolation=method, name="resize"), tensor)
    return Replacement(layers.Resizing(*size, interpolation=method, name="resize"), tensor)


def _older(method: str | None) -> Callable[[Call], Result]:
    """A function of TensorFlow 1, of one method, or that takes a method."""

    def build(call: Call) -> Result:
        chosen, sizes = method or _method(call), _sizes(call)
        corners = bool(call.get("align_corners"))
        if sizes is None or chosen is None or call.get("preserve_aspect_ratio"):
            return None
        if corners and chosen == "nearest":  # the two formats round between two pixels otherwise
            return None
        centers = bool(call.get("half_pixel_centers"))
        return Replacement(flat_layers.Resize(sizes[1], chosen, corners, centers, name="resize"), call["images"])

    return build


def _method(call: Call) -> str | None:
    given = call.get("method", "bilinear")
    return METHODS.get(str(getattr(given, "value", given)).lower())


def _sizes(call: Call) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(rows, columns) before and after; None where one is not known."""
    tensor: Any = call["images"]
    size = static_shape(call["size"])
    if tensor.shape.rank != 4 or size is None or None in size or None in tensor.shape[1:3]:
        return None
    (height, width), (rows, columns) = tensor.shape[1:3], size
    return (int(height), int(width)), (int(rows or 0), int(columns or 0))


RESIZES: dict[str, Callable[[Call], Result]] = {
    "image.resize": _resize,
    "image.resize_images": _older(None),
    "image.resize_bilinear": _older("bilinear"),
    "image.resize_nearest_neighbor": _older("nearest"),
}
