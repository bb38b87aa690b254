"""Fashion-MNIST from its four IDX files, compressed or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images
from edgeship.data.keras_download import keras_download
from edgeship.data.source import Source, labelled

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)
PARTS = ("train", "t10k")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# An IDX file starts with two zero bytes, the type of its numbers (8: unsigned byte) and the rank.
UNSIGNED_BYTE = 0x08


def load_fashion_mnist(config: DataConfig) -> Source:
    """Fashion-MNIST as uint8 of shape (n, 28, 28), with its own test split.

    Read from `data.path` if set; otherwise from the first folder that has all four files: the cache of the
    Keras loader, Debian's dataset-fashion-mnist; otherwise the Keras loader downloads it.

    Raises:
        DataError: a file is missing, damaged, or holds something else; the download failed.
    """
    folder = _folder(config)
    if folder is None:
        train, test = keras_download(
            "fashion_mnist",
            instead="install Debian's dataset-fashion-mnist, or set data.path to the folder of the IDX files",
        )
        parts = [labelled("fashion_mnist", *train), labelled("fashion_mnist", *test)]
    else:
        parts = [_read_part(folder, part) for part in PARTS]
    return Source(where=str(folder or "fashion_mnist"), train=parts[0], test=parts[1], labels=CLASSES)


def read_idx(path: Path, *, rank: int) -> np.ndarray:
    """An IDX file of unsigned bytes as uint8 of that rank, decompressed if it ends in .gz.

    Raises:
        DataError: the file cannot be read, is not IDX of that rank, or is not as long as its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: expected an IDX file, found one that cannot be read ({error}); fetch it again"
        ) from error
    header_bytes = 4 * (1 + rank)
    magic = bytes((0, 0, UNSIGNED_BYTE, rank))
    if content[:4] != magic:
        raise DataError(
            f"{path}: expected an IDX file that starts with {magic.hex()}, "
            f"found {content[:4].hex() or 'nothing'}; fetch it again"
        )
    if len(content) < header_bytes:
        raise DataError(
            f"{path}: truncated: expected a header of {header_bytes} bytes, found {len(content)} bytes; "
            "fetch it again"
        )
    shape = struct.unpack(f">{rank}I", content[4:header_bytes])
    expected_bytes = int(np.prod(shape, dtype=object))  # Python integers: a damaged header must not overflow
    if len(content) - header_bytes != expected_bytes:
        kind = "truncated" if len(content) - header_bytes < expected_bytes else "too long"
        raise DataError(
            f"{path}: {kind}: its header says {shape}, {expected_bytes:,} bytes, found "
            f"{len(content) - header_bytes:,}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def _folder(config: DataConfig) -> Path | None:
    if config.path is not None:
        folder = Path(config.path)
        if not folder.is_dir():
            raise DataError(
                f"data.path: {folder}: expected a folder of IDX files, found no such folder; correct it"
            )
        return folder
    for folder in (Path.home() / ".keras" / "datasets" / "fashion-mnist", DEBIAN_FOLDER):
        # A download that was interrupted leaves some of the four.
        if all(_idx_file(folder, part, kind) for part in PARTS for kind in ("images-idx3", "labels-idx1")):
            return folder
    return None


def _read_part(folder: Path, part: str) -> Images:
    images = read_idx(_required_file(folder, part, "images-idx3"), rank=3)
    labels_file = _required_file(folder, part, "labels-idx1")
    return labelled(labels_file, images, read_idx(labels_file, rank=1))


def _required_file(folder: Path, part: str, kind: str) -> Path:
    path = _idx_file(folder, part, kind)
    if path is None:
        raise DataError(
            f"{folder}: expected {part}-{kind}-ubyte or {part}-{kind}-ubyte.gz, found neither; "
            "put all four IDX files there"
        )
    return path


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    names = (f"{part}-{kind}-ubyte", f"{part}-{kind}-ubyte.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)
