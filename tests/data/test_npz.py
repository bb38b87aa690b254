"""One .npz file: both layouts, rounding of floats, and every refusal. Also: digits take no path."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.config import DATASETS, DataConfig
from edgeship.core.errors import DataError
from edgeship.data import load_splits
from edgeship.data.loaders import LOADERS, load_source

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
CLASSES = np.arange(30) % 3
WHOLE = {"x": PIXELS, "y": CLASSES}


def load(path, **arrays):
    np.savez(path, **arrays)
    return load_splits(DataConfig(name="npz", path=str(path), calibration_images=6, test_images=9))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def test_every_dataset_has_a_loader():
    assert set(LOADERS) == set(DATASETS) - {"arrays"}  # which have a pipeline of their own
    with pytest.raises(DataError, match="expected labelled images, found arrays"):
        load_source(DataConfig(factory="mine:data"))


def test_without_a_test_split(path):
    splits = load(path, x=PIXELS, y=CLASSES)
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (15, 6, 9)
    assert splits.labels == ("0", "1", "2")


def test_with_a_test_split_and_names(path):
    splits = load(
        path, x_train=PIXELS[:20, ..., None], y_train=CLASSES[:20, None].astype(np.uint8),
        x_test=PIXELS[20:], y_test=CLASSES[20:], labels=np.array(["a", "b", "c", "never seen"]),
    )
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (14, 6, 9)
    assert splits.labels == ("a", "b", "c", "never seen")
    assert splits.train.labels.dtype == np.int64


def test_floats_are_rounded_to_uint8(path):
    splits = load(path, x=PIXELS.astype(np.float32) / 255, y=CLASSES)
    same = load(path, x=PIXELS, y=CLASSES)
    np.testing.assert_array_equal(splits.test.images, same.test.images)
    assert splits.test.images.dtype == np.uint8


def floats(value: float) -> np.ndarray:
    pixels = PIXELS / 255
    pixels[3, 4, 5] = value
    return pixels


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": floats(np.nan), "y": CLASSES}, "x: expected finite pixels, found 1 that are NaN or infinite"),
        ({"x": floats(np.inf), "y": CLASSES}, "x: expected finite pixels, found 1"),
        ({"x": floats(1.5), "y": CLASSES}, "x: expected floats from 0 to 1, found 0 to 1.5"),
        ({"x": floats(-1), "y": CLASSES}, "x: expected floats from 0 to 1, found -1 to 1"),
        ({"x": PIXELS.astype(np.int32), "y": CLASSES}, "x: expected uint8, or floats .* found int32"),
        ({"x": PIXELS[0], "y": CLASSES}, r"x: expected shape .* found \(8, 8\)"),
        ({"x": PIXELS.reshape(30, 4, 4, 4), "y": CLASSES}, r"x: expected shape .* found \(30, 4, 4, 4\)"),
        ({"x": PIXELS, "y": CLASSES[:-1]}, r"y: expected one label per image, found 30 .* \(29,\)"),
        ({"x": PIXELS, "y": CLASSES * 1.0}, "y: expected integer labels, found float64"),
        ({"x": PIXELS, "y": CLASSES - 1}, "labels that do not match .* found -1 to 1"),
        (WHOLE | {"labels": np.array(["a", "b"])}, r"expected 0 to 1 \(2 classes\), found 0 to 2"),
        (WHOLE | {"labels": np.array(["a", "b", "b"])}, "labels: expected one distinct name"),
        (WHOLE | {"labels": np.arange(3)}, "labels: expected one distinct name .* found int64"),
        ({"x": PIXELS}, "expected the arrays x_train, y_train, x_test, y_test or x, y, found x; rename"),
        ({"x": PIXELS[:0], "y": CLASSES[:0]}, "expected training images, found none"),
        ({"x": PIXELS, "y": np.array([object()] * 30)}, "Object arrays cannot be loaded"),
        (
            {"x_train": PIXELS, "y_train": CLASSES, "x_test": PIXELS, "y_test": CLASSES + 1},
            "test labels that do not match the classes: expected 0 to 2",
        ),
    ],
)
def test_refused(path, arrays, message):
    with pytest.raises(DataError, match=rf"data\.npz: .*{message}"):
        load(path, **arrays)


def test_damaged_files(path):
    config = DataConfig(name="npz", path=str(path), test_images=9)
    with pytest.raises(DataError, match=r"data\.path: .*data\.npz: expected an \.npz file, found none"):
        load_splits(config)
    np.savez(path, x=PIXELS, y=CLASSES)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[:900], whole[:400] + b"\xff" * 40 + whole[440:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz: expected an \.npz file of numbers, found one that"):
            load_splits(config)
    with path.open("wb") as stream:
        np.save(stream, PIXELS)
    with pytest.raises(DataError, match="it holds a single array"):
        load_splits(config)


def test_a_path_is_needed_and_digits_refuse_one():
    with pytest.raises(DataError, match=r"data\.path: expected an \.npz file .* found none; set it"):
        load_splits(DataConfig(name="npz"))
    with pytest.raises(DataError, match=r"data\.path: expected none, since the digits come with"):
        load_splits(DataConfig(name="digits", path="/anywhere"))
