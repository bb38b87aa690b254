"""Layers that scale and shift each channel by constants: batch norm and its kind, `y = scale * x + offset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model.keras2 import normalizes_last_axis


@dataclass(frozen=True)
class Affine:
    """`y = scale * x + offset` on the last axis; float64, each of shape (channels,) or ()."""

    scale: np.ndarray
    offset: np.ndarray

    @property
    def is_positive_scale(self) -> bool:
        """One positive factor for all channels and no offset: it commutes with a ReLU."""
        return bool(np.all(self.offset == 0) and np.all(self.scale == self.scale.flat[0]) and self.scale.flat[0] > 0)


def affine_of(layer: Any) -> Affine | None:
    """What a layer does in inference, where it is a scaling of channels; None for every other layer."""
    read = READERS.get(type(layer))
    # Our own flat layers of this kind tell it themselves.
    own = getattr(layer, "affine", None)
    if read is not None:
        affine = read(layer)
    else:
        affine = None if own is None else Affine(*(np.asarray(values, np.float64) for values in own()))
    # One channel and several numbers would make more channels.
    return affine if affine is None or affine.scale.size in (1, layer.get_input_at(0).shape[-1]) else None


def _batch_norm(layer: Any) -> Affine | None:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axes not in ([-1], [layer.input_spec.ndim - 1]):
        return None
    mean, variance = (np.asarray(value, np.float64) for value in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, np.float64)
    offset = -mean * scale
    if layer.center:
        offset = offset + np.asarray(layer.beta, np.float64)
    return Affine(scale, offset)


def _rescaling(layer: Any) -> Affine | None:
    scale, offset = (np.asarray(value, np.float64) for value in (layer.scale, layer.offset))
    if any(size != 1 for value in (scale, offset) for size in value.shape[:-1]):
        return None
    return Affine(*np.broadcast_arrays(scale.reshape(-1), offset.reshape(-1)))


def _normalization(layer: Any) -> Affine | None:
    if not normalizes_last_axis(layer):
        return None
    mean, variance = (np.asarray(value, np.float64).reshape(-1) for value in (layer.mean, layer.variance))
    # keras: max(sqrt(variance), epsilon), epsilon 1e-7 (normalization.py)
    scale = 1.0 / np.maximum(np.sqrt(variance), 1e-7)
    return Affine(1.0 / scale, mean) if layer.invert else Affine(scale, -mean * scale)


READERS: dict[type, Callable[[Any], Affine | None]] = {
    layers.BatchNormalization: _batch_norm,
    layers.experimental.SyncBatchNormalization: _batch_norm,
    layers.Rescaling: _rescaling,
    layers.Normalization: _normalization,
}


class Depthwise:
    """A scaling as a 1x1 depthwise convolution with bias: one integer product per channel, and exact weights.

    With one weight per channel and one scale per channel each weight is the integer 127, so only the bias (int32)
    and the result are rounded.

    Args:
        shape: of the inputs, batch included.
    """

    def __init__(self, affine: Affine, shape: Any, *, name: str, trainable: bool) -> None:
        channels = int(shape[-1])
        self.kernel, self.bias = (
            np.broadcast_to(values, (channels,)).astype(np.float32) for values in (affine.scale, affine.offset)
        )
        self.before = self.after = None
        if shape.rank != 4:
            # Convolutions want images: (c,) is an image of one pixel, (t, c) one of a single column.
            inner = tuple(shape[1:])
            self.before = layers.Reshape((*((1, 1) if len(inner) == 1 else (inner[0], 1)), channels),
                                         name=f"{name}_as_image")
            self.after = layers.Reshape(inner, name=f"{name}_as_before")
        self.product = layers.DepthwiseConv2D(1, name=name, trainable=trainable)

    @staticmethod
    def fits(shape: Any) -> bool:
        """Whether inputs of a shape can be seen as images."""
        return 2 <= shape.rank <= 4 and None not in (shape[1:] if shape.rank < 4 else shape[-1:])

    def apply(self, tensor: Any) -> Any:
        outputs = tensor if self.before is None else self.before(tensor)
        fresh = not self.product.built
        outputs = self.product(outputs)
        if fresh:
            self.product.set_weights([self.kernel.reshape(1, 1, -1, 1), self.bias])
        return outputs if self.after is None else self.after(outputs)
