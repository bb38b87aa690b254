"""CIFAR-10 batches: Python 2's pickles, today's, and ones that want to run something."""

from __future__ import annotations

import os
import pickle
import struct
import sys

import numpy as np
import pytest

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data import load_splits
from edgeship.data.cifar10 import TEST_BATCHES, TRAIN_BATCHES, load_cifar10


def random_rows(count: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def batch_bytes(rows: np.ndarray, labels: list[int]) -> bytes:
    return pickle.dumps({b"data": rows, b"labels": labels, b"batch_label": b"a batch"}, protocol=4)


def python2_batch_bytes(rows: np.ndarray, labels: list[int]) -> bytes:
    """The same as Python 2 and NumPy 1 wrote it, which is the form the real archive has."""

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\n(" + string(b"u1") + number(0) + number(1) + b"tR"
        b"(" + number(3) + string(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + string(b"b") + b"tR"
        b"(" + number(1) + b"(" + number(rows.shape[0]) + number(rows.shape[1]) + b"t" + dtype + b"I00\n"
        + string(rows.tobytes()) + b"tb"
    )
    values = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + values + b"u."


def write_cache(folder, writer=batch_bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        (folder / name).write_bytes(writer(random_rows(seed=seed), list(range(10))))


def config(folder=None, **changes) -> DataConfig:
    return DataConfig(
        name="cifar10", channels=3, path=folder and str(folder), calibration_images=10, **changes
    )


@pytest.mark.parametrize("writer", [batch_bytes, python2_batch_bytes])
def test_planes_become_pixels(tmp_path, writer):
    write_cache(tmp_path, writer)
    source = load_cifar10(config(tmp_path))
    assert source.train.images.shape == (50, 32, 32, 3)
    assert source.labels[9] == "truck"
    rows = random_rows(seed=5)
    assert source.test is not None
    np.testing.assert_array_equal(source.test.images[3, 4, 5], rows[3].reshape(3, 32, 32)[:, 4, 5])
    assert source.test.labels.tolist() == list(range(10))


def test_the_keras_cache_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_cache(tmp_path / ".keras" / "datasets" / "cifar-10-batches-py")
    splits = load_splits(config())
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (40, 10, 10)


def test_failed_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    monkeypatch.setitem(sys.modules, "tf_keras.datasets", None)
    with pytest.raises(DataError, match=r"cifar10: .*set data\.path to an unpacked folder"):
        load_splits(config())


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_malicious_pickle_runs_nothing(tmp_path):
    write_cache(tmp_path)
    mark = tmp_path / "it-ran"
    content = pickle.dumps({b"data": random_rows(), b"labels": Malicious(f"touch {mark}")})
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3: .*it asks for (posix|nt)\.system"):
        load_splits(config(tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOFError"),
        (b"not a pickle", "cannot be read as one"),
        (batch_bytes(random_rows(), list(range(10)))[:500], "cannot be read as one"),
        (pickle.dumps([1, 2]), "cannot be read as one"),
        (pickle.dumps({b"data": 1, b"labels": [1]}), "expected uint8 rows of 3072 bytes, found int"),
        (batch_bytes(random_rows().astype(np.int16), [0] * 10), "found ndarray int16"),
        (batch_bytes(random_rows()[:, :3000], [0] * 10), r"found ndarray uint8 \(10, 3000\)"),
        (batch_bytes(random_rows(), [0] * 9), r"found 10 images and labels of shape \(9,\)"),
    ],
)
def test_damaged_batch(tmp_path, content, message):
    write_cache(tmp_path)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=f"test_batch: .*{message}"):
        load_splits(config(tmp_path))


def test_missing_folder_and_batch(tmp_path):
    with pytest.raises(DataError, match=r"data\.path: .*nowhere: expected the folder cifar-10-batches-py"):
        load_splits(config(tmp_path / "nowhere"))
    write_cache(tmp_path)
    (tmp_path / "data_batch_2").unlink()
    with pytest.raises(DataError, match="data_batch_2: expected a CIFAR-10 batch, found no such file"):
        load_splits(config(tmp_path))
