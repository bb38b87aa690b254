"""preprocess(): exact values, and every refusal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data import Images, preprocess, preprocessing_of
from edgeship.data.preprocess import share_cut_off


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def spec(size: int = 8, channels: int = 1, mean: tuple = (0.0,), std: tuple = (1.0,)):
    return preprocessing_of(DataConfig(image_size=size, channels=channels, mean=mean, std=std))


def test_specification_has_one_mean_and_std_per_channel():
    found = spec(size=224, channels=3, mean=(0.5,), std=(0.1, 0.2, 0.3))
    assert dataclasses.asdict(found) == {
        "image_size": 224, "channels": 3, "channel_order": "RGB", "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5), "std": (0.1, 0.2, 0.3), "fit": "crop", "antialias": True,
    }
    assert spec().channel_order == "gray"


def test_equal_size_is_exactly_pixel_over_255():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    found = preprocess(pixels, spec(16))
    assert found.shape == (1, 16, 16, 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.reshape(-1), np.arange(256, dtype=np.float32) / np.float32(255))


def test_mean_and_std_are_per_channel():
    pixels = random_pixels(2, 8, 8, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = preprocess(pixels, spec(8, 3, mean, std))
    expected = (pixels.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_sequence_gives_what_an_array_gives():
    for shape, channels in (((5, 9, 12), 1), ((5, 9, 12, 1), 3), ((5, 9, 12, 3), 1), ((5, 8, 8, 3), 3)):
        pixels = random_pixels(*shape)
        as_array = preprocess(pixels, spec(8, channels))
        np.testing.assert_array_equal(preprocess(list(pixels), spec(8, channels)), as_array)
        assert as_array.shape == (5, 8, 8, channels)


def test_rgb_becomes_gray_as_pillow_does_it():
    pixels = random_pixels(6, 8, 8, 3)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])
    np.testing.assert_array_equal(preprocess(pixels, spec(8)), preprocess(expected, spec(8)))


def test_gray_becomes_rgb_by_repeating():
    found = preprocess(random_pixels(2, 8, 8), spec(8, 3))
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("size", [8, 20])
def test_resizing_equals_pillow(size):
    pixels = random_pixels(13, 13, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    found = preprocess([pixels], spec(size, 3))
    np.testing.assert_array_equal(found[0], expected.astype(np.float32) / np.float32(255))


def test_the_central_square_is_cut_before_resizing():
    wide = np.zeros((8, 14, 1), np.uint8)
    wide[:, 3:11] = 255
    assert preprocess([wide], spec(8)).min() == 1.0
    tall = wide.transpose(1, 0, 2)
    assert preprocess([tall], spec(10)).min() == 1.0


def test_the_share_of_the_pixels_that_is_cut_off():
    whole, square = Images(random_pixels(3, 8, 8), np.zeros(3, int)), spec(8)
    wide = Images(random_pixels(5, 8, 10, 3), np.zeros(5, int))
    assert share_cut_off(whole, square) == 0
    assert share_cut_off(wide, square) == pytest.approx(0.2)
    assert share_cut_off(wide, dataclasses.replace(square, fit="stretch")) == 0


def test_images_of_many_sizes():
    images = [random_pixels(9, 30), random_pixels(30, 9, 3), random_pixels(8, 8, 1)]
    found = preprocess(images, spec(8, 3))
    assert found.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(found[2], preprocess([images[2]], spec(8, 3))[0])


def test_no_images():
    assert preprocess([], spec(8, 3)).shape == (0, 8, 8, 3)
    assert preprocess(np.zeros((0, 9, 9, 3), np.uint8), spec(8, 1)).shape == (0, 8, 8, 1)


def test_the_input_is_left_as_it_was():
    pixels = random_pixels(2, 8, 8)
    before = pixels.copy()
    preprocess(pixels, spec(8))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), "images: expected uint8 .* found float32"),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int64)], "image 1: expected uint8 .* found int64"),
        ([[1, 2]], "image 0: expected uint8 .* found list"),
        (np.zeros((8, 8), np.uint8), r"expected an array of shape .* found \(8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"found \(2, 8, 8, 4\)"),
        ([np.zeros((1, 8, 8, 3), np.uint8)], r"image 0: expected shape HxW.* found \(1, 8, 8, 3\)"),
        ([np.zeros((8, 8, 2), np.uint8)], r"image 0: .* found \(8, 8, 2\)"),
        (np.zeros((224, 224, 3), np.uint8), r"looks like a single HxWxC image; pass it as image\[None\]"),
        ([np.zeros((0, 8), np.uint8)], "image 0: expected at least one pixel"),
        (np.zeros((2, 8, 0), np.uint8), "images: expected at least one pixel"),
    ],
)
def test_refused_images(images, message):
    with pytest.raises(DataError, match=message):
        preprocess(images, spec(8))


@pytest.mark.parametrize(
    "changes", [{"interpolation": "bicubic"}, {"channel_order": "BGR"}, {"channels": 4}, {"mean": (0.0, 0.0)},
                {"fit": "pad"}]
)
def test_a_specification_it_cannot_follow(changes):
    with pytest.raises(DataError, match=r"bilinear interpolation, and to fit pictures by .*; found Preprocessing"):
        preprocess(np.zeros((1, 8, 8), np.uint8), dataclasses.replace(spec(8), **changes))
