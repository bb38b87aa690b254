"""The ways to a square: cut or stretched, with Pillow's filter or TensorFlow's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from edgeship.core.config import DataConfig
from edgeship.data import preprocessing_of, squares


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def spec(size: int = 8, channels: int = 1):
    return preprocessing_of(DataConfig(image_size=size, channels=channels))


@pytest.mark.parametrize("shape", [(13, 30, 3), (30, 13, 1), (7, 5, 3)])
def test_the_whole_picture_is_stretched_as_pillow_does(shape):
    pixels = random_pixels(*shape)
    picture = Image.fromarray(pixels if shape[-1] == 3 else pixels[..., 0])
    expected = np.asarray(picture.resize((11, 11), Image.Resampling.BILINEAR)).reshape(1, 11, 11, -1)
    whole = dataclasses.replace(spec(11, shape[-1]), fit="stretch")
    np.testing.assert_array_equal(squares([pixels], whole), expected)
    np.testing.assert_array_equal(squares(pixels[None], whole), expected)


def test_without_antialiasing_each_place_is_a_mean_of_the_nearest_pixels():
    """By hand: 2 pixels become 8. Their centers lie at 2 and 6 of 8; outside of these the border is repeated."""
    wide = np.array([[0, 80]], np.uint8).repeat(8, axis=0)
    found = squares([wide], dataclasses.replace(spec(8), fit="stretch", antialias=False))
    assert found[0, :, :, 0].tolist() == [[0, 0, 10, 30, 50, 70, 80, 80]] * 8
    # Made smaller by 4, a place lies between its second and third pixel; the others are not looked at.
    row = np.array([9, 10, 21, 99] * 8, np.uint8)
    found = squares([np.tile(row, (8, 1))], dataclasses.replace(spec(8), fit="stretch", antialias=False))
    assert set(found.ravel().tolist()) == {16}  # 15.5, rounded up


@pytest.mark.parametrize("shape", [(48, 40, 3), (301, 224, 3), (9, 20, 1), (40, 40, 3)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_without_antialiasing_the_pixels_are_those_of_tensorflow(shape, fit):
    """TensorFlow rounds nothing, `squares` twice by at most half a step: together one step (and what float32 adds)."""
    pixels = random_pixels(*shape)
    side = min(shape[:2])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    shown = pixels if fit == "stretch" else pixels[top : top + side, left : left + side]
    expected = tf.image.resize(shown, (32, 32)).numpy()
    found = squares([pixels], dataclasses.replace(spec(32, shape[-1]), fit=fit, antialias=False))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1 + 1e-3)
