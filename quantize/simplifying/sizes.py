"""Layers that resize images or take part of a tensor -> layers that integers have."""

from __future__ import annotations

from typing import Any

from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.replacement import Replacement


def resizing(layer: Any) -> Replacement | None:
    """By a whole factor: a layer that says so; to the same size: nothing."""
    sizes = _sizes(layer)
    if layer.crop_to_aspect_ratio or layer.interpolation not in ("bilinear", "nearest") or sizes is None:
        return None
    return _resized(layer, sizes, layer.interpolation)


def _sizes(layer: Any) -> list[tuple[int, int]] | None:
    """The (rows, columns) of all that a layer is called on; None where one is not known."""
    sizes = [tuple(node.input_shapes[1:3]) for node in layer.inbound_nodes]
    return None if any(None in size for size in sizes) else sizes


def _resized(layer: Any, sizes: list[tuple[int, int]], how: str) -> Replacement | None:
    result = (layer.height, layer.width)
    if any(after % before for size in sizes for before, after in zip(size, result, strict=True)):
        return None

    def build(parts: Replacement, tensor: Any) -> Any:
        size = tuple(tensor.shape[1:3])
        if size == result:
            return tensor
        factors = (result[0] // size[0], result[1] // size[1])
        return parts.of_shape(size, "", layers.UpSampling2D, factors, interpolation=how)(tensor)

    return Replacement(layer, build)


def random_crop(layer: Any) -> Replacement | None:
    """In inference it does not crop at random: it resizes what the target's proportions leave of the middle."""
    sizes = _sizes(layer)
    if sizes is None or any(rows * layer.width != columns * layer.height for rows, columns in sizes):
        return None
    return _resized(layer, sizes, "bilinear")


def center_crop(layer: Any) -> Replacement | None:
    """The middle of an image; of one that is too small it would be a resize."""
    sizes = _sizes(layer)
    if sizes is None or any(rows < layer.height or columns < layer.width for rows, columns in sizes):
        return None

    def build(parts: Replacement, tensor: Any) -> Any:
        size = tuple(tensor.shape[1:3])
        over = (size[0] - layer.height, size[1] - layer.width)
        crop = tuple((part // 2, part - part // 2) for part in over)
        return parts.of_shape(size, "", layers.Cropping2D, crop)(tensor)

    return Replacement(layer, build)


def global_max(layer: Any) -> Replacement | None:
    """A maximum over the whole image as max-pooling: ONNX Runtime has no integer ReduceMax."""
    if layer.data_format != "channels_last" or _sizes(layer) is None:
        return None

    def build(parts: Replacement, tensor: Any) -> Any:
        size = tuple(tensor.shape[1:3])
        pooled = parts.of_shape(size, "" if layer.keepdims else "pool", layers.MaxPooling2D, size)(tensor)
        return pooled if layer.keepdims else parts.layer("", layers.Flatten)(pooled)

    return Replacement(layer, build)


def picked(layer: Any) -> Replacement | None:
    """One position of an axis: a slice of length 1 and a reshape, so that what happens to the axes is in both files."""
    whole = layer.get_input_at(0).shape
    if not any(isinstance(item, int) for item in layer.slices) or None in whole[1:]:
        return None
    slices = [(item, item + 1 or None, None) if isinstance(item, int) else item for item in layer.slices]

    def build(parts: Replacement, tensor: Any) -> Any:
        part = parts.layer("part", flat_layers.StridedSlice, slices)(tensor)
        kept = [
            size for axis, size in enumerate(part.shape[1:])
            if axis >= len(slices) or not isinstance(layer.slices[axis], int)
        ]
        return parts.layer("", layers.Reshape, kept)(part)

    return Replacement(layer, build)
