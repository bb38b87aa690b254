"""Images and labels from one .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images
from edgeship.data.source import Source, labelled, path_of

SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
WHOLE_KEYS = ("x", "y")
NAMES_KEY = "labels"


def load_npz(config: DataConfig) -> Source:
    """`data.path`, an .npz file with `x_train, y_train, x_test, y_test`, or with `x, y` and no test split.

    Images are (n, H, W), (n, H, W, 1) or (n, H, W, 3), either uint8, or floats from 0 to 1, which are ROUNDED
    to the nearest of the 256 uint8 levels. `y` holds class numbers from 0, (n,) or (n, 1). An array `labels`
    of class names is optional; without it classes are named "0", "1" ... up to the largest training label.

    Raises:
        DataError: no such file, not an .npz file, an array missing or of another form, objects instead of
            numbers, NaN, infinity or floats outside 0..1, labels that do not match.
    """
    path = path_of(config, "an .npz file")
    arrays = read_arrays(path)
    if all(key in arrays for key in SPLIT_KEYS):
        train, test = _images(path, arrays, "x_train", "y_train"), _images(path, arrays, "x_test", "y_test")
    elif all(key in arrays for key in WHOLE_KEYS):
        train, test = _images(path, arrays, "x", "y"), None
    else:
        raise DataError(
            f"{path}: expected the arrays {', '.join(SPLIT_KEYS)} or {', '.join(WHOLE_KEYS)}, "
            f"found {', '.join(sorted(arrays)) or 'none'}; rename or add arrays"
        )
    return Source(where=str(path), train=train, test=test, labels=_labels(path, arrays, train))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the .npz file that `data.path` names. Raises DataError."""
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)  # a pickled object can run code
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array, as .npy files do")
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"data.path: {path}: expected an .npz file, found none; correct it") from error
    # Damaged bytes make zipfile and NumPy raise nearly anything.
    except Exception as error:
        raise DataError(
            f"data.path: {path}: expected an .npz file of numbers, found one that cannot be read "
            f"({type(error).__name__}: {error}); "
            "write it with numpy.savez, without object arrays"
        ) from error


def _images(path: Path, arrays: dict[str, np.ndarray], images_key: str, labels_key: str) -> Images:
    pixels = arrays[images_key]
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] not in (1, 3)):
        raise DataError(
            f"{path}: {images_key}: expected shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), "
            f"found {pixels.shape}; reshape it"
        )
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = _rounded(f"{path}: {images_key}", pixels)
    elif pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: {images_key}: expected uint8, or floats from 0 to 1, found {pixels.dtype}; convert it"
        )
    return labelled(f"{path}: {labels_key}", pixels, arrays[labels_key])


def _rounded(where: str, pixels: np.ndarray) -> np.ndarray:
    broken = int(np.count_nonzero(~np.isfinite(pixels)))
    if broken:
        raise DataError(
            f"{where}: expected finite pixels, found {broken:,} that are NaN or infinite; repair them"
        )
    if pixels.size and (pixels.min() < 0 or pixels.max() > 1):
        raise DataError(
            f"{where}: expected floats from 0 to 1, found {pixels.min():g} to {pixels.max():g}; "
            "store uint8, or scale to 0..1 and leave mean and std to the configuration"
        )
    rounded: np.ndarray = np.rint(pixels * 255).astype(np.uint8)
    return rounded


def _labels(path: Path, arrays: dict[str, np.ndarray], train: Images) -> tuple[str, ...]:
    if NAMES_KEY not in arrays:
        return tuple(str(label) for label in range(int(train.labels.max(initial=-1)) + 1))
    names = arrays[NAMES_KEY]
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise DataError(
            f"{path}: {NAMES_KEY}: expected one distinct name per class, found {names.dtype} of shape "
            f"{names.shape} with {len(np.unique(names))} distinct values; store a list of names"
        )
    return tuple(names.tolist())
