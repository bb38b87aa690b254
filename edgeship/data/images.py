"""Images with labels, in memory or decoded from files when they are asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from edgeship.core.errors import DataError
from edgeship.core.files import sha256_of_file

PILLOW_MODES = {1: "L", 3: "RGB"}
DECODED_FORMATS = ("JPEG", "PNG")  # whatever a file's name says; Pillow's other decoders are not let near it


class LazyImages(Sequence[np.ndarray], ABC):
    """Encoded images, decoded on access, so that a large dataset never sits in memory.

    `images[7]` decodes one: uint8, HxW for 1 channel, HxWx3 (RGB) for 3. `images[2:5]`, `images[[4, 1]]` and
    `images[mask]` decode nothing and give other LazyImages of the same kind. A transparency channel is dropped and
    an EXIF orientation is not applied. Several threads may decode at once; Pillow lets them run side by side.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __getitem__(self, index: Any) -> Any:
        """Decode one image, or select several. Raises DataError naming an image that cannot be decoded."""
        if isinstance(index, int | np.integer):
            return self._decode(range(len(self))[index])
        return self._select(np.arange(len(self))[index])  # NumPy's meaning of slices, lists, masks and negatives

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def hashes(self) -> list[str]:
        """The hexadecimal SHA-256 of each image's encoded bytes. Raises DataError naming an unreadable one."""

    @abstractmethod
    def _select(self, positions: np.ndarray) -> LazyImages: ...

    @abstractmethod
    def _name(self, position: int) -> str:
        """What messages call an image."""

    @abstractmethod
    def _open(self, position: int) -> Path | IO[bytes]:
        """Where Pillow finds the encoded image."""

    def _decode(self, position: int) -> np.ndarray:
        try:
            with Image.open(self._open(position), formats=DECODED_FORMATS) as picture:
                # Pillow clips 16-bit and float pixels at 255, which would turn most of such an image white.
                if picture.mode.startswith(("I", "F")):
                    raise DataError(
                        f"{self._name(position)}: expected 8 bits per channel, found Pillow mode {picture.mode!r}; "
                        "convert the image to 8 bits"
                    )
                return np.array(picture.convert(PILLOW_MODES[self.channels]))
        except DataError:
            raise
        # Pillow's decoders answer damaged bytes with nearly any exception.
        except Exception as error:
            raise unreadable(self._name(position), error) from error


class ImageFiles(LazyImages):
    """One file per image."""

    def __init__(self, paths: Sequence[Path], *, channels: int) -> None:
        super().__init__(channels)
        self.paths = tuple(paths)
        self._sha256_by_path: dict[Path, str] = {}  # shared with the selections: a file is hashed once

    def __len__(self) -> int:
        return len(self.paths)

    def hashes(self) -> list[str]:
        """The hexadecimal SHA-256 of each file's bytes. Raises DataError naming an unreadable file."""
        for path in self.paths:
            if path not in self._sha256_by_path:
                try:
                    self._sha256_by_path[path] = sha256_of_file(path)
                except OSError as error:
                    raise unreadable(str(path), error) from error
        return [self._sha256_by_path[path] for path in self.paths]

    def _select(self, positions: np.ndarray) -> ImageFiles:
        selection = ImageFiles([self.paths[position] for position in positions], channels=self.channels)
        selection._sha256_by_path = self._sha256_by_path
        return selection

    def _name(self, position: int) -> str:
        return str(self.paths[position])

    def _open(self, position: int) -> Path:
        return self.paths[position]


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


def unreadable(name: str, error: Exception) -> DataError:
    """What is said of an image that cannot be read."""
    return DataError(
        f"{name}: expected a readable JPEG or PNG image, found one that cannot be decoded "
        f"({type(error).__name__}: {error}); replace the file or remove it"
    )
