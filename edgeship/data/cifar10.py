"""CIFAR-10 from its pickled batches, read without running what a pickle may contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images
from edgeship.data.keras_download import keras_download
from edgeship.data.source import Source, labelled

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
SIDE = 32
ROW_BYTES = 3 * SIDE * SIDE  # the red plane, the green one, the blue one

# The constructors a pickled array needs. Taken from an array of our own, since NumPy 2 has moved them.
_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


def load_cifar10(config: DataConfig) -> Source:
    """CIFAR-10 as uint8 RGB of shape (n, 32, 32, 3), with its own test split.

    Read from `data.path` (the folder `cifar-10-batches-py`) if set; otherwise from the cache of the Keras
    loader; otherwise the Keras loader downloads it.

    Raises:
        DataError: a batch is missing, damaged, or contains more than arrays; the download failed.
    """
    folder = _folder(config)
    if folder is None:
        train, test = keras_download(
            "cifar10", instead="set data.path to an unpacked folder cifar-10-batches-py"
        )
        parts = [labelled("cifar10", *train), labelled("cifar10", *test)]
    else:
        parts = [_read_batches(folder, names) for names in (TRAIN_BATCHES, TEST_BATCHES)]
    return Source(where=str(folder or "cifar10"), train=parts[0], test=parts[1], labels=CLASSES)


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays and builtin containers; an ordinary Unpickler runs whatever the file asks for."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _ALLOWED[module, name]


def _folder(config: DataConfig) -> Path | None:
    if config.path is not None:
        folder = Path(config.path)
        if not folder.is_dir():
            raise DataError(
                f"data.path: {folder}: expected the folder cifar-10-batches-py, found none; correct it"
            )
        return folder
    folder = Path.home() / ".keras" / "datasets" / "cifar-10-batches-py"
    complete = all((folder / name).is_file() for name in TRAIN_BATCHES + TEST_BATCHES)
    return folder if complete else None


def _read_batches(folder: Path, names: tuple[str, ...]) -> Images:
    batches = [_read_batch(folder / name) for name in names]
    return Images(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )


def _read_batch(path: Path) -> Images:
    try:
        with path.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
        rows, labels = batch[b"data"], np.asarray(batch[b"labels"])
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected a CIFAR-10 batch, found no such file; unpack the whole archive"
        ) from error
    # Damaged bytes can make an Unpickler raise nearly anything.
    except Exception as error:
        raise DataError(
            f"{path}: expected a CIFAR-10 batch, found a file that cannot be read as one "
            f"({type(error).__name__}: {error}); fetch it again from a source you trust"
        ) from error
    shape = getattr(rows, "shape", None)
    if getattr(rows, "dtype", None) != np.uint8 or shape is None or shape[1:] != (ROW_BYTES,):
        raise DataError(
            f"{path}: expected uint8 rows of {ROW_BYTES} bytes, found {type(rows).__name__} "
            f"{getattr(rows, 'dtype', '')} {shape}; is it CIFAR-10?"
        )
    pixels = np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    return labelled(path, pixels, labels)
