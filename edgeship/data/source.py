"""What a loader hands over: a dataset before it is split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """A dataset as it is stored.

    Raises:
        DataError: a part without images, or a label that no class belongs to.
    """

    where: str  # named in messages
    train: Images
    test: Images | None  # None: it has no test split of its own
    labels: tuple[str, ...]
    default_test_images: int | None = None  # how many to draw where `test` is None and none are asked for

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("test", self.test)):
            if images is None:
                continue
            if len(images) == 0:
                raise DataError(
                    f"{self.where}: expected {part} images, found none; complete the dataset"
                )
            least, most = int(images.labels.min()), int(images.labels.max())
            if least < 0 or most >= len(self.labels):
                raise DataError(
                    f"{self.where}: {part} labels that do not match the classes: expected 0 to "
                    f"{len(self.labels) - 1} ({len(self.labels)} classes), found {least} to {most}; "
                    "correct them"
                )


def labelled(where: object, images: np.ndarray, labels: np.ndarray) -> Images:
    """Images from two arrays; integer labels of shape (n,) or (n, 1) become int64 of shape (n,).

    Raises:
        DataError: labels of another form, or not as many labels as images; `where` is named.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: expected integer labels, found {labels.dtype}; store class numbers from 0")
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.shape != (len(images),):
        raise DataError(
            f"{where}: expected one label per image, found {len(images)} images and labels of shape "
            f"{labels.shape}; do the two belong together?"
        )
    return Images(images, flat.astype(np.int64))


def path_of(config: DataConfig, what: str) -> Path:
    """`data.path`, which must be set. Raises DataError."""
    if config.path is None:
        raise DataError(f"data.path: expected {what} (data.name is {config.name!r}), found none; set it")
    return Path(config.path)
