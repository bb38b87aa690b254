"""Pictures of changed examples: from inputs, through examples.npz, into the page."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeship.core.artifact import Preprocessing
from edgeship.core.errors import InputError
from edgeship.data.examples import Examples, examples_of_arrays
from edgeship.validate.report.html.pictures import LARGEST, pictures_of, read_pictures, write_pictures
from tests.support.report_records import classifier, pictures, regression

GRAY = Preprocessing(
    image_size=8, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.5,), std=(0.25,)
)


def inputs(*shape: int) -> Examples:
    return examples_of_arrays((np.random.default_rng(0).uniform(-1, 1, (25, *shape)).astype(np.float32),))


def test_images_look_as_they_did_before_they_were_inputs() -> None:
    """Pixels p became (p / 255 - 0.5) / 0.25."""
    pixels = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 1))
    examples = examples_of_arrays((((pixels / 255 - 0.5) / 0.25).astype(np.float32),))
    found = pictures_of(classifier(), examples, GRAY)
    assert found is not None
    assert list(found.index) == [3, 24]
    assert np.array_equal(found.pixels, pixels[[3, 24]])


def test_blue_comes_first_in_bgr() -> None:
    pixels = np.zeros((25, 8, 8, 3), np.float32)
    pixels[..., 0] = 1.0
    spec = Preprocessing(
        image_size=8, channels=3, channel_order="bgr", interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    found = pictures_of(classifier(), examples_of_arrays((pixels,)), spec)
    assert found is not None and tuple(found.pixels[0, 0, 0]) == (0, 0, 255)


def test_arrays_are_drawn_from_black_to_white_and_large_ones_small() -> None:
    found = pictures_of(classifier(), inputs(300, 150), None)
    assert found is not None and found.pixels.shape == (2, LARGEST, LARGEST // 2, 1)
    found = pictures_of(classifier(), inputs(8, 8, 3), None)
    assert found is not None and (found.pixels.min(), found.pixels.max()) == (0, 255)


@pytest.mark.parametrize("shape", [(4,), (8, 8, 2), (1, 50), (2, 8, 8, 3)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    assert pictures_of(classifier(), inputs(*shape), None) is None


def test_nothing_changed_or_several_inputs() -> None:
    assert pictures_of(regression(), inputs(8, 8, 1), None) is None
    two = examples_of_arrays((np.zeros((25, 8, 8, 1)), np.zeros((25, 4))))
    assert pictures_of(classifier(), two, None) is None


def test_the_file_and_the_page_have_the_same_pixels(tmp_path: Path) -> None:
    write_pictures(pictures(), tmp_path)
    found = read_pictures(tmp_path)
    assert found is not None and np.array_equal(found.pixels, pictures().pixels)
    address = found.data_uris()[24]
    png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), pictures().pixels[1, ..., 0])
    write_pictures(None, tmp_path)
    assert read_pictures(tmp_path) is None


@pytest.mark.parametrize("change", [
    {"pixels": np.zeros((2, 8, 8, 1))}, {"pixels": np.zeros((2, 0, 8, 1), np.uint8)},
    {"pixels": np.zeros((2, 8, 8, 2), np.uint8)}, {"index": np.zeros(3, np.int64)},
])
def test_files_that_hold_no_pictures(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    write_pictures(dataclasses.replace(pictures(), **change), tmp_path)
    with pytest.raises(InputError, match=r"examples\.npz: expected arrays"):
        read_pictures(tmp_path)


def test_bytes_that_are_no_archive(tmp_path: Path) -> None:
    (tmp_path / "examples.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"examples\.npz: expected arrays .* validate again"):
        read_pictures(tmp_path)
