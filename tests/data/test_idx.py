"""Fashion-MNIST from IDX files, and the download that Keras would do."""

from __future__ import annotations

import gzip
import struct
import sys
import types

import numpy as np
import pytest

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data import fashion_mnist, load_splits, load_test_split, splits_record
from edgeship.data.fashion_mnist import DEBIAN_FOLDER, read_idx


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


WHOLE = idx_bytes(np.zeros((2, 3, 4), np.uint8))


def write_dataset(folder, *, compressed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        arrays = {
            "images-idx3": random.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            "labels-idx1": np.arange(count, dtype=np.uint8) % 10,
        }
        for kind, array in arrays.items():
            content = idx_bytes(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if compressed else "")
            (folder / name).write_bytes(gzip.compress(content, 1) if compressed else content)


def config(folder=None) -> DataConfig:
    return DataConfig(name="fashion_mnist", path=folder and str(folder), calibration_images=10)


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "no-such-folder")
    return home


def fake_keras(monkeypatch, load_data) -> None:
    datasets = types.ModuleType("tf_keras.datasets")
    datasets.fashion_mnist = types.SimpleNamespace(load_data=load_data)
    package = types.ModuleType("tf_keras")
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "tf_keras", package)
    monkeypatch.setitem(sys.modules, "tf_keras.datasets", datasets)


def test_compressed_and_plain_are_equal(tmp_path):
    write_dataset(tmp_path / "gz")
    write_dataset(tmp_path / "plain", compressed=False)
    splits = load_splits(config(tmp_path / "gz"))
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (50, 10, 20)
    assert splits.labels[0] == "T-shirt/top"
    assert splits.test.images.shape == (20, 28, 28)
    assert splits_record(splits) == splits_record(load_splits(config(tmp_path / "plain")))


def test_the_keras_cache_comes_before_debians_folder(empty_home, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    write_dataset(tmp_path / "debian")
    assert fashion_mnist.load_fashion_mnist(config()).where == str(tmp_path / "debian")
    cache = empty_home / ".keras" / "datasets" / "fashion-mnist"
    write_dataset(cache)
    assert fashion_mnist.load_fashion_mnist(config()).where == str(cache)
    (cache / "t10k-labels-idx1-ubyte.gz").unlink()  # an interrupted download
    assert fashion_mnist.load_fashion_mnist(config()).where == str(tmp_path / "debian")


def test_keras_downloads_as_the_last_resort(empty_home, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    fake_keras(monkeypatch, lambda: ((pixels[:20], labels[:20]), (pixels[20:], labels[20:])))
    splits = load_splits(config())
    assert (len(splits.train), len(splits.test)) == (10, 10)


def test_failed_download_says_what_to_install(empty_home, monkeypatch):
    def load_data():
        raise Exception("URL fetch failure")

    fake_keras(monkeypatch, load_data)
    with pytest.raises(DataError, match=r"URL fetch failure.*install Debian's dataset-fashion-mnist"):
        load_splits(config())


def test_no_tensorflow_is_a_failed_download(empty_home, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    monkeypatch.setitem(sys.modules, "tf_keras.datasets", None)
    with pytest.raises(DataError, match=r"fashion_mnist: .*ModuleNotFoundError"):
        load_splits(config())


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(DataError, match=r"data\.path: .*nowhere: expected a folder of IDX files"):
        load_splits(config(tmp_path / "nowhere"))
    write_dataset(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"expected t10k-images-idx3-ubyte or .*gz, found neither"):
        load_splits(config(tmp_path))


def test_labels_of_another_count_or_range(tmp_path):
    write_dataset(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(59, np.uint8))))
    with pytest.raises(DataError, match=r"train-labels.*found 60 images and labels of shape \(59,\)"):
        load_splits(config(tmp_path))
    path.write_bytes(gzip.compress(idx_bytes(np.full(60, 10, np.uint8))))
    with pytest.raises(DataError, match=r"labels that do not match .* expected 0 to 9 .* found 10 to 10"):
        load_splits(config(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with 00000803, found nothing"),
        (b"\x00\x00\x0d\x03" + b"\x00" * 12, "starts with 00000803, found 00000d03"),
        (idx_bytes(np.zeros(5, np.uint8)), "starts with 00000803, found 00000801"),
        (WHOLE[:10], "truncated: expected a header of 16 bytes, found 10"),
        (WHOLE[:-1], r"truncated: its header says \(2, 3, 4\), 24 bytes, found 23"),
        (WHOLE + b"!", "too long: .* found 25"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "truncated: its header says"),
    ],
)
def test_damaged_idx(tmp_path, content, message):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"images-idx3-ubyte: .*{message}"):
        read_idx(path, rank=3)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "images.gz"
    whole = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (2, 9, 9), dtype=np.uint8)))
    for content in (whole[:-20], b"not gzip", whole[:20] + b"\xff" * 20 + whole[40:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"images\.gz: .* found one that cannot be read"):
            read_idx(path, rank=3)


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason=f"dataset-fashion-mnist is not in {DEBIAN_FOLDER}")
def test_the_real_fashion_mnist():
    real = DataConfig(name="fashion_mnist", path=str(DEBIAN_FOLDER), calibration_images=200)
    splits = load_splits(real)
    record = splits_record(splits)
    assert record["train"]["class_counts"] == [5980] * 10
    assert record["calibration"]["class_counts"] == [20] * 10
    assert record["test"]["class_counts"] == [1000] * 10
    assert splits.removed_duplicates == 0
    np.testing.assert_array_equal(load_test_split(real).images, splits.test.images)
