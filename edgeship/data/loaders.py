"""The table of datasets: the name in `data.name` -> the function that reads it."""

from __future__ import annotations

from collections.abc import Callable

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.cifar10 import load_cifar10
from edgeship.data.digits import load_digits
from edgeship.data.fashion_mnist import load_fashion_mnist
from edgeship.data.image_folder import load_image_folder
from edgeship.data.npz import load_npz
from edgeship.data.source import Source
from edgeship.data.tfrecord import load_tfrecord

LOADERS: dict[str, Callable[[DataConfig], Source]] = {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "image_folder": load_image_folder,
    "npz": load_npz,
    "tfrecord": load_tfrecord,
}


def load_source(config: DataConfig) -> Source:
    """The whole dataset, before it is split (DataConfig has checked its name). Raises DataError."""
    if config.is_arrays:
        raise DataError(
            f"data: expected labelled images, found arrays ({config.factory or config.path}); this needs images, by "
            "data.name"
        )
    return LOADERS[config.name](config)
