"""Folders of images: lazily decoded, and refused with the file's name."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data import load_splits, load_test_split, preprocess, preprocessing_of, split_sha256, splits_record
from edgeship.data.images import ImageFiles, LazyImages


def write_image(path, seed: int, *, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_part(folder, count: int, *, classes=("cat", "dog"), first_seed: int = 0) -> None:
    for label, name in enumerate(classes):
        for number in range(count):
            suffix = ("jpg", "PNG", "JPEG", "jpeg")[number % 4]
            write_image(folder / name / f"{number}.{suffix}", first_seed + 100 * label + number)


def config(folder, **changes) -> DataConfig:
    return DataConfig(
        **{"name": "image_folder", "path": str(folder), "channels": 3, "image_size": 8,
           "calibration_images": 4, **changes}
    )


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_train_and_test_folders(tmp_path, test_folder):
    write_part(tmp_path / "train", 6)
    write_part(tmp_path / test_folder, 3, first_seed=1000)
    splits = load_splits(config(tmp_path))
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (8, 4, 6)
    assert splits.labels == ("cat", "dog")
    assert splits.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert splits_record(splits)["calibration"]["class_counts"] == [2, 2]
    assert split_sha256(load_test_split(config(tmp_path))) == split_sha256(splits.test)
    assert preprocess(splits.test.images[1:3], preprocessing_of(config(tmp_path))).shape == (2, 8, 8, 3)


def test_test_comes_before_val(tmp_path):
    for seed, name in enumerate(("train", "val", "test")):
        write_part(tmp_path / name, seed + 2, first_seed=1000 * seed)
    assert len(load_test_split(config(tmp_path))) == 8


def test_a_folder_without_splits(tmp_path):
    write_part(tmp_path, 10)
    splits = load_splits(config(tmp_path, test_images=6))
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (10, 4, 6)
    assert splits_record(splits)["test"]["class_counts"] == [3, 3]
    with pytest.raises(DataError, match="has no test split of its own; say how many of its 20 images"):
        load_splits(config(tmp_path))


def test_copied_file_is_removed_from_train(tmp_path):
    write_part(tmp_path / "train", 6)
    write_part(tmp_path / "test", 3, first_seed=1000)
    copy = tmp_path / "train" / "dog" / "copy.jpg"
    copy.write_bytes((tmp_path / "test" / "cat" / "0.jpg").read_bytes())
    splits = load_splits(config(tmp_path))
    assert splits.removed_duplicates == 1
    assert copy not in [*splits.train.images.paths, *splits.calibration.images.paths]


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    write_part(tmp_path / "train", 6)
    write_part(tmp_path / "test", 3, first_seed=1000)
    decoded = []
    decode = LazyImages._decode

    def recording(images, position):
        decoded.append(images.paths[position])
        return decode(images, position)

    monkeypatch.setattr(LazyImages, "_decode", recording)
    splits = load_splits(config(tmp_path))
    splits_record(splits)
    assert decoded == []
    assert splits.train.images[2].shape == (10, 12, 3)
    assert decoded == [splits.train.images.paths[2]]


def test_indexing(tmp_path):
    write_part(tmp_path, 6)
    paths = sorted(tmp_path.rglob("*.*"))
    images = ImageFiles(paths, channels=3)
    assert images[2:5].paths == tuple(paths[2:5])
    assert images[np.array([7, 0])].paths == (paths[7], paths[0])
    assert images[np.arange(12) > 9].paths == tuple(paths[10:])
    np.testing.assert_array_equal(images[-1], images[11])
    assert len(list(images)) == 12
    with pytest.raises(IndexError):
        images[12]
    with pytest.raises(IndexError):
        images[-13]
    assert images[3:4].hashes() == [hashlib.sha256(paths[3].read_bytes()).hexdigest()]


def test_channels_and_modes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "gray.png")
    files = [tmp_path / "rgba.png", tmp_path / "gray.png"]
    color, gray = ImageFiles(files, channels=3), ImageFiles(files, channels=1)
    np.testing.assert_array_equal(color[0], pixels[..., :3])
    assert color[1].shape == (9, 9, 3)
    assert gray[0].shape == (9, 9)
    np.testing.assert_array_equal(gray[1], pixels[..., 0])
    assert color[0].dtype == np.uint8


def test_an_undecodable_image_is_named(tmp_path):
    write_image(tmp_path / "whole.jpg", 0, size=(64, 64))
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    for name in ("truncated.jpg", "text.png", "missing.png"):
        with pytest.raises(DataError, match=f"{name}: expected a readable JPEG or PNG image"):
            ImageFiles([tmp_path / name], channels=3)[0]
    with pytest.raises(DataError, match=r"missing\.png"):
        ImageFiles([tmp_path / "missing.png"], channels=3).hashes()


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: expected 8 bits per channel, found Pillow mode 'I;16'"):
        ImageFiles([tmp_path / "deep.png"], channels=1)[0]


def test_hidden_files_and_notes_are_passed_over(tmp_path):
    write_part(tmp_path, 6)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / ".hidden.png").write_text("")
    (tmp_path / "cat" / "notes.txt").write_text("")
    splits = load_splits(config(tmp_path, test_images=2))
    assert splits.labels == ("cat", "dog")
    assert sum(part["images"] for part in splits_record(splits).values()) == 12


def test_missing_things(tmp_path):
    with pytest.raises(DataError, match=r"data\.path: expected a folder .* found none"):
        load_splits(config(tmp_path, path=None))
    with pytest.raises(DataError, match=r"data\.path: .*nowhere: expected a folder of images"):
        load_splits(config(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="expected one folder per class, found none"):
        load_splits(config(tmp_path))
    write_part(tmp_path / "val", 2)
    with pytest.raises(DataError, match="expected a folder train beside val, found none"):
        load_splits(config(tmp_path))
    write_part(tmp_path / "train", 2)
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "val" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train/empty: expected images \(.jpeg, .jpg, .png\), found none"):
        load_splits(config(tmp_path))


def test_labels_that_do_not_match(tmp_path):
    write_part(tmp_path / "train", 2)
    write_part(tmp_path / "val", 2, classes=("cat", "horse"))
    with pytest.raises(DataError, match=r"val: labels that do not match .* missing dog, unknown horse"):
        load_splits(config(tmp_path))


def test_other_image_formats_are_refused(tmp_path):
    write_part(tmp_path, 2)
    (tmp_path / "cat" / "picture.WEBP").write_bytes(b"")
    with pytest.raises(DataError, match=r"picture\.WEBP: expected JPEG or PNG, found \.WEBP"):
        load_splits(config(tmp_path))
