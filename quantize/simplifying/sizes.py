"""Layers that resize images or take part of a tensor -> layers that integers have."""

from __future__ import annotations

from typing import Any

from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.simplifying.replacement import Replacement, nothing


def resizing(layer: Any) -> Replacement | None:
    """By a whole factor: a layer that says so; to the same size: nothing."""
    shape = layer.get_input_at(0).shape
    if layer.crop_to_aspect_ratio or layer.interpolation not in ("bilinear", "nearest") or None in shape[1:3]:
        return None
    return _resized(layer, (int(shape[1]), int(shape[2])), (layer.height, layer.width), layer.interpolation)


def _resized(layer: Any, old: tuple[int, int], new: tuple[int, int], how: str) -> Replacement | None:
    if old == new:
        return nothing(layer)
    if any(after % before for before, after in zip(old, new, strict=True)):
        return None
    factors = (new[0] // old[0], new[1] // old[1])
    return Replacement(layer, lambda parts, x: parts.layer("", layers.UpSampling2D, factors, interpolation=how)(x))


def random_crop(layer: Any) -> Replacement | None:
    """In inference it does not crop at random: it resizes what the target's proportions leave of the middle."""
    shape = layer.get_input_at(0).shape
    if None in shape[1:3] or shape[1] * layer.width != shape[2] * layer.height:
        return None
    return _resized(layer, (int(shape[1]), int(shape[2])), (layer.height, layer.width), "bilinear")


def center_crop(layer: Any) -> Replacement | None:
    """The middle of an image; of one that is too small it would be a resize."""
    shape = layer.get_input_at(0).shape
    if None in shape[1:3] or shape[1] < layer.height or shape[2] < layer.width:
        return None
    over = (int(shape[1]) - layer.height, int(shape[2]) - layer.width)
    crop = tuple((size // 2, size - size // 2) for size in over)
    return Replacement(layer, lambda parts, x: parts.layer("", layers.Cropping2D, crop)(x))


def global_max(layer: Any) -> Replacement | None:
    """A maximum over the whole image as max-pooling: ONNX Runtime has no integer ReduceMax."""
    if layer.data_format != "channels_last" or any(None in node.input_shapes[1:3] for node in layer.inbound_nodes):
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
