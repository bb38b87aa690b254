"""Splits: disjoint, deterministic, stratified, and refused where they cannot be."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data import (
    Images,
    Splits,
    hold_out,
    load_splits,
    load_test_split,
    require_calibration,
    split_sha256,
    splits_record,
)
from edgeship.data.images import image_hashes
from edgeship.data.splits import _even, _proportional, require_disjoint


def random_images(count: int, classes: int = 4, seed: int = 0) -> Images:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return Images(pixels, np.arange(count, dtype=np.int64) % classes)


def write_npz(path, train: Images, test: Images | None = None) -> str:
    arrays = {"x": train.images, "y": train.labels}
    if test is not None:
        arrays = {
            "x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels,
        }
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def own_test(tmp_path) -> DataConfig:
    """80 training images and 40 of a test split, 4 classes."""
    path = write_npz(tmp_path / "data.npz", random_images(80), random_images(40, seed=1))
    return DataConfig(name="npz", path=path, calibration_images=12)


def class_counts(images: Images) -> list[int]:
    return np.bincount(images.labels).tolist()


def test_digits():
    splits = load_splits(DataConfig(name="digits", calibration_images=200))
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (1097, 200, 500)
    assert splits.labels == tuple("0123456789")
    assert splits.removed_duplicates == 0
    assert splits.train.images.dtype == np.uint8
    assert splits.train.images.shape[1:] == (8, 8)
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)
    assert splits.train.labels.dtype == np.int64
    assert class_counts(splits.calibration) == [20] * 10
    assert min(class_counts(splits.test)) >= 48


def test_the_same_configuration_gives_the_same_splits(own_test):
    config = dataclasses.replace(own_test, test_images=20, train_images=30)
    assert splits_record(load_splits(config)) == splits_record(load_splits(config))
    other = splits_record(load_splits(dataclasses.replace(config, seed=1)))
    for name, record in splits_record(load_splits(config)).items():
        assert record["sha256"] != other[name]["sha256"]


def test_these_splits_never_change():
    """An upgrade of NumPy, or of this code, must not move images between the splits of a published result."""
    record = splits_record(load_splits(DataConfig(name="digits", calibration_images=200)))
    assert {name: part["sha256"][:16] for name, part in record.items()} == {
        "train": "0c95cf7ec75988c5", "calibration": "ae661a93902011ad", "test": "0e79df0502a36d62",
    }


def test_the_test_split_does_not_depend_on_the_other_sizes(own_test):
    config = dataclasses.replace(own_test, test_images=10)
    expected = split_sha256(load_splits(config).test)
    other = dataclasses.replace(config, calibration_images=3, train_images=5)
    assert split_sha256(load_splits(other).test) == expected
    assert split_sha256(load_test_split(other)) == expected
    digits = DataConfig(name="digits", test_images=99)
    assert split_sha256(load_test_split(digits)) == split_sha256(load_splits(digits).test)


def test_own_test_split_is_whole_and_in_order(own_test):
    splits = load_splits(own_test)
    np.testing.assert_array_equal(splits.test.images, random_images(40, seed=1).images)
    assert (len(splits.calibration), len(splits.train)) == (12, 68)
    assert class_counts(splits.calibration) == [3] * 4


def test_test_images_takes_some_in_their_order(own_test):
    test = load_splits(dataclasses.replace(own_test, test_images=15)).test
    whole = image_hashes(random_images(40, seed=1))
    positions = [whole.index(value) for value in image_hashes(test)]
    assert len(positions) == 15
    assert positions == sorted(positions)


def test_splits_are_disjoint_and_complete(own_test):
    splits = load_splits(own_test)
    parts = [set(image_hashes(part)) for part in (splits.train, splits.calibration, splits.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 120


def test_copies_of_test_images_are_removed_and_counted(tmp_path):
    train, test = random_images(80), random_images(40, seed=1)
    train.images[[3, 50]] = test.images[7]
    train.images[4] = test.images[8]
    path = write_npz(tmp_path / "data.npz", train, test)
    splits = load_splits(DataConfig(name="npz", path=path, calibration_images=0))
    assert splits.removed_duplicates == 3
    assert len(splits.train) == 77
    assert not set(image_hashes(splits.train)) & set(image_hashes(test))


def test_copies_of_calibration_images_are_removed_from_train(tmp_path):
    pixels = np.repeat(random_images(40).images, 2, axis=0)  # every image twice
    train = Images(pixels, np.zeros(80, np.int64))
    path = write_npz(tmp_path / "data.npz", train, random_images(4, classes=1, seed=1))
    splits = load_splits(DataConfig(name="npz", path=path, calibration_images=10))
    assert splits.removed_duplicates > 0
    assert len(splits.train) == 70 - splits.removed_duplicates
    require_disjoint(splits)


def test_a_duplicate_drawn_into_test_is_removed_from_the_rest(tmp_path):
    images = random_images(40)
    images.images[:] = images.images[0]
    path = write_npz(tmp_path / "data.npz", images)
    splits = load_splits(DataConfig(name="npz", path=path, test_images=4))
    assert (len(splits.train), len(splits.calibration), splits.removed_duplicates) == (0, 0, 36)


def test_planted_duplicate_is_found():
    images = random_images(30)
    splits = Splits(
        train=images.select(np.arange(20)),
        calibration=images.select(np.arange(20, 25)),
        test=images.select(np.array([5, 25, 26])),
        labels=("a", "b", "c", "d"),
    )
    with pytest.raises(DataError, match=r"1 image\(s\) in both train and test, the first of them image 5"):
        require_disjoint(splits)
    with pytest.raises(DataError, match="both calibration and test"):
        require_disjoint(dataclasses.replace(splits, test=images.select(np.array([24]))))


def test_record(own_test):
    record = splits_record(load_splits(own_test))
    assert list(record) == ["train", "calibration", "test"]
    assert record["test"]["images"] == 40
    assert record["test"]["class_counts"] == [10, 10, 10, 10]
    assert len(record["test"]["sha256"]) == 64


def test_hashes_see_pixels_shape_labels_and_order():
    images = random_images(6)
    hashes = {
        split_sha256(images),
        split_sha256(images.select(np.arange(6)[::-1])),
        split_sha256(Images(images.images, images.labels[::-1].copy())),
        split_sha256(Images(images.images.reshape(6, 4, 16), images.labels)),
        split_sha256(Images(images.images ^ 1, images.labels)),
    }
    assert len(hashes) == 5


def test_train_images_keeps_the_share_of_each_class(tmp_path):
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10, np.int64)
    train = Images(random_images(100).images, labels)
    path = write_npz(tmp_path / "data.npz", train)
    config = DataConfig(name="npz", path=path, calibration_images=9, test_images=20, train_images=35)
    splits = load_splits(config)
    assert class_counts(splits.test) == [12, 6, 2]
    assert class_counts(splits.calibration) == [3, 3, 3]
    assert class_counts(splits.train) == [22, 10, 3]


@pytest.mark.parametrize(
    ("quotas", "sizes", "count", "expected"),
    [
        (_even, [10, 10, 10], 9, [3, 3, 3]),
        (_even, [1, 10, 10], 9, [1, 4, 4]),
        (_even, [10, 10, 10], 10, [3, 3, 4]),
        (_even, [2, 1], 3, [2, 1]),
        (_even, [5, 5], 0, [0, 0]),
        (_even, [], 0, []),
        (_proportional, [60, 30, 10], 10, [6, 3, 1]),
        (_proportional, [5, 5, 5], 4, [2, 1, 1]),
        (_proportional, [7, 3], 10, [7, 3]),
        (_proportional, [], 0, []),
    ],
)
def test_quotas(quotas, sizes, count, expected):
    assert quotas(np.array(sizes, np.int64), count).tolist() == expected


def test_no_calibration_loads_and_is_refused_on_demand(own_test):
    splits = load_splits(dataclasses.replace(own_test, calibration_images=0))
    assert len(splits.calibration) == 0
    assert splits_record(splits)["calibration"]["class_counts"] == [0, 0, 0, 0]
    with pytest.raises(DataError, match=r"data\.calibration_images: .* found none"):
        require_calibration(splits)
    require_calibration(load_splits(own_test))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": 41}, r"data\.test_images: expected at least 41 .* found 40"),
        ({"calibration_images": 81}, r"data\.calibration_images: expected at least 81 .* found 80 beside the test"),
        (
            {"calibration_images": DataConfig().calibration_images},
            r"calibration_images: expected at least 512 .* \(512 is the default\), found 80 .*; set it",
        ),
        ({"train_images": 69}, r"data\.train_images: expected at least 69 .* found 68"),
        ({"seed": -1}, r"data\.seed: expected 0 to .* found -1"),
    ],
)
def test_too_few_images(own_test, changes, message):
    with pytest.raises(DataError, match=message):
        load_splits(dataclasses.replace(own_test, **changes))


def test_without_a_test_split_its_size_must_be_said(tmp_path):
    path = write_npz(tmp_path / "data.npz", random_images(40))
    with pytest.raises(DataError, match=r"data\.test_images: .*data\.npz has no test split of its own"):
        load_test_split(DataConfig(name="npz", path=path))
    assert len(load_test_split(DataConfig(name="npz", path=path, test_images=8))) == 8
    with pytest.raises(DataError, match="expected at least 41 images"):
        load_test_split(DataConfig(name="npz", path=path, test_images=41))


def test_no_tensorflow_is_imported():
    code = (
        "import sys; from edgeship.core.config import DataConfig; from edgeship.data import load_splits; "
        "load_splits(DataConfig()); print([m for m in ('tensorflow', 'tf_keras') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_images_need_one_label_each():
    with pytest.raises(DataError, match="expected one label per image, found 3 images"):
        Images(np.zeros((3, 8, 8), np.uint8), np.zeros(2, np.int64))


def test_a_slice_is_held_out_with_the_share_of_each_class():
    images = Images(random_images(100).images, np.array([0] * 60 + [1] * 30 + [2] * 10, np.int64))
    rest, held_out = hold_out(images, 20, seed=3)
    assert class_counts(held_out) == [12, 6, 2]
    assert class_counts(rest) == [48, 24, 8]
    assert not set(image_hashes(rest)) & set(image_hashes(held_out))
    assert split_sha256(hold_out(images, 20, seed=3)[1]) == split_sha256(held_out)
    assert split_sha256(hold_out(images, 20, seed=4)[1]) != split_sha256(held_out)


def test_copies_of_held_out_images_are_not_trained_on():
    pixels = np.repeat(random_images(20).images, 2, axis=0)  # every image twice
    rest, held_out = hold_out(Images(pixels, np.zeros(40, np.int64)), 10, seed=0)
    assert len(held_out) == 10
    assert len(rest) == 40 - 2 * len(set(image_hashes(held_out)))


def test_holding_out_everything_is_refused():
    with pytest.raises(DataError, match="validation_images: expected fewer than the 30 training images, found 30"):
        hold_out(random_images(30), 30, seed=0)
