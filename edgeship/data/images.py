"""Images with labels, in memory or decoded from files when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeship.errors import DataError
from edgeship.files import sha256_of_file

PILLOW_MODES = {1: "L", 3: "RGB"}


class LazyImages(Sequence[np.ndarray]):
    """Image files, decoded on access, so that a large folder never sits in memory.

    `images[7]` decodes one file: uint8, HxW for 1 channel, HxWx3 (RGB) for 3. `images[2:5]`, `images[[4, 1]]`
    and `images[mask]` decode nothing and give another LazyImages. A transparency channel is dropped and an
    EXIF orientation is not applied.
    """

    def __init__(self, paths: Sequence[Path], *, channels: int) -> None:
        self.paths = tuple(paths)
        self.channels = channels
        self._sha256_by_path: dict[Path, str] = {}  # shared with the selections: a file is hashed once

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """Decode one image, or select several. Raises DataError naming a file that cannot be decoded."""
        picked = np.arange(len(self.paths))[index]  # NumPy's meaning of slices, lists, masks and negatives
        if picked.ndim == 0:
            return self._decode(self.paths[int(picked)])
        selection = LazyImages([self.paths[position] for position in picked], channels=self.channels)
        selection._sha256_by_path = self._sha256_by_path
        return selection

    def hashes(self) -> list[str]:
        """The hexadecimal SHA-256 of each file's bytes. Raises DataError naming an unreadable file."""
        for path in self.paths:
            if path not in self._sha256_by_path:
                try:
                    self._sha256_by_path[path] = sha256_of_file(path)
                except OSError as error:
                    raise _unreadable(path, error) from error
        return [self._sha256_by_path[path] for path in self.paths]

    def _decode(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as picture:
                # Pillow clips 16-bit and float pixels at 255, which would turn most of such an image white.
                if picture.mode.startswith(("I", "F")):
                    raise DataError(
                        f"{path}: expected 8 bits per channel, found Pillow mode {picture.mode!r}; "
                        "convert the image to 8 bits"
                    )
                return np.array(picture.convert(PILLOW_MODES[self.channels]))
        except DataError:
            raise
        # Pillow's decoders answer damaged bytes with nearly any exception.
        except Exception as error:
            raise _unreadable(path, error) from error


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels.

    `images` is uint8 of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), or LazyImages of length n; `labels` is
    int64 of shape (n,). Both kinds of `images` take integers, slices and index arrays, and `preprocess`
    accepts what these return for slices and index arrays.

    Raises:
        DataError: the two lengths differ.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.images),):
            raise DataError(
                f"expected one label per image, found {len(self.images)} images and labels of shape "
                f"{self.labels.shape}; the images and the labels do not belong together"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> Images:
        """The images at `indices` (integers of shape (k,)), in that order."""
        return Images(self.images[indices], self.labels[indices])


def image_hashes(images: Images) -> list[str]:
    """One content hash per image: SHA-256 of shape and bytes, or of the file's bytes for image files.

    Raises:
        DataError: an image file cannot be read.
    """
    if isinstance(images.images, LazyImages):
        return images.images.hashes()
    stack = np.ascontiguousarray(images.images)
    shape = repr(stack.shape[1:]).encode()
    return [hashlib.sha256(shape + image.tobytes()).hexdigest() for image in stack]


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: expected a readable JPEG or PNG image, found one that cannot be decoded "
        f"({type(error).__name__}: {error}); replace the file or remove it"
    )
