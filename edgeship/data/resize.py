"""A picture of any size becomes a square of one size: cut out or stretched, then resampled by a bilinear filter.

Two filters, of the same weights but for their reach when a picture is made smaller:
    with antialiasing      Pillow's `Image.resize(..., BILINEAR)`: a triangle as wide as what is left out
    without                TensorFlow's `tf.image.resize`, which Keras' loaders and its layer `Resizing` use: the four
                           nearest pixels, whatever lies between them
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgeship.core.artifact import CROP

ONE_BITS = 22  # weights are integers of 2^-22, as Pillow's are (its Resample.c, PRECISION_BITS)


def fitted(stack: np.ndarray, *, fit: str) -> np.ndarray:
    """Return what of each picture is shown: its largest central square where it is cut, or all of it.

    Args:
        stack: uint8 (n, H, W, c).
        fit: "crop" or "stretch".
    """
    if fit != CROP:
        return stack
    height, width = stack.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return stack[:, top : top + side, left : left + side]


def resized(stack: np.ndarray, size: int, *, antialias: bool) -> np.ndarray:
    """Return uint8 (n, size, size, c) of uint8 (n, H, W, c); nothing is resampled where it has that size."""
    if stack.shape[1:3] == (size, size):
        return stack
    resample = _with_pillow if antialias else _of_four_pixels
    result = np.empty((len(stack), size, size, stack.shape[-1]), np.uint8)
    for position, image in enumerate(stack):
        result[position] = resample(image, size)
    return result


def _with_pillow(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, c) -> (size, size, c)."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else np.ascontiguousarray(image))
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    return pixels.reshape(size, size, image.shape[-1])


def _of_four_pixels(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, c) -> (size, size, c): rows first, then columns, each rounded to 8 bits as Pillow rounds them.

    TensorFlow rounds nothing: each of the two roundings adds at most half a step of 1/255 to its answer.
    """
    for axis in (1, 0):
        image = _mixed(image, size, axis=axis)
    return image


def _mixed(image: np.ndarray, size: int, *, axis: int) -> np.ndarray:
    """Each place along `axis` is a mean of the two nearest of the image; half-way centers, the border repeated."""
    length = image.shape[axis]
    center = (np.arange(size) + 0.5) * length / size - 0.5
    first = np.floor(center).astype(np.int64)
    weight = np.floor((center - first) * (1 << ONE_BITS) + 0.5).astype(np.int32)
    weight = weight.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    # Not above 255 * 2^22 + 2^21 in all, which 32 bits hold.
    low = image.take(np.clip(first, 0, length - 1), axis=axis).astype(np.int32)
    high = image.take(np.clip(first + 1, 0, length - 1), axis=axis).astype(np.int32)
    mixed = (low * ((1 << ONE_BITS) - weight) + high * weight + (1 << (ONE_BITS - 1))) >> ONE_BITS
    return np.asarray(mixed, np.uint8)
