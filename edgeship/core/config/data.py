"""`[data]`: where the examples come from, and how images become inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeship.core.artifact import CROP, FITS
from edgeship.core.config.checks import at_least, one_of
from edgeship.core.errors import ConfigError

DATASETS = ("digits", "fashion_mnist", "cifar10", "image_folder", "npz", "tfrecord", "arrays")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`[data]`: which images, how they are split and preprocessed; or arrays, which are taken as they are."""

    name: str = "digits"
    # "module:function" -> the user's own arrays (edgeship/data/array_source.py); keys of images have no meaning then.
    factory: str | None = None
    path: str | None = None  # folder or .npz file; relative paths start at the config file's folder
    first_label: int = 0  # of tfrecord: the label of the first class; ImageNet's is 1
    image_size: int = 32
    channels: int = 1
    fit: str = CROP  # of a picture that is not square; "stretch" as Keras' loaders do
    antialias: bool = True  # of the resize; Keras' loaders and its layer Resizing do without
    mean: tuple[float, ...] = (0.0,)  # per channel, on the 0..1 scale
    std: tuple[float, ...] = (1.0,)
    train_images: int | None = None  # None: all that are left
    calibration_images: int = 512
    test_images: int | None = None  # None: the dataset's own test split (digits has none: 500)
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("data.name", self.name, DATASETS)
        if self.name == "arrays" and not self.path:
            raise ConfigError('data.path: expected an .npz file of arrays (data.name = "arrays"), found none')
        one_of("data.channels", self.channels, (1, 3))
        one_of("data.fit", self.fit, FITS)
        if self.first_label and self.name != "tfrecord":
            raise ConfigError(f"data.first_label: is for the tfrecord dataset, data.name is {self.name!r}; remove it")
        at_least("data.image_size", self.image_size, 8)
        at_least("data.calibration_images", self.calibration_images, 0)
        for key in ("train_images", "test_images"):
            if (count := getattr(self, key)) is not None:
                at_least(f"data.{key}", count, 1)
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.channels):
                raise ConfigError(
                    f"data.{key}: expected 1 or {self.channels} numbers (data.channels), "
                    f"found {len(getattr(self, key))}"
                )
        # Written so that NaN is refused too.
        if not all(0 <= number <= 1 for number in self.mean):
            raise ConfigError(
                f"data.mean: expected numbers from 0 to 1, since pixels are divided by 255 first, found "
                f"{list(self.mean)}; divide a mean of 0..255 pixels by 255, and its std too"
            )
        if not all(0 < number < math.inf for number in self.std):
            raise ConfigError(f"data.std: expected numbers above 0, found {list(self.std)}")


    @property
    def is_arrays(self) -> bool:
        """Whether the data are arrays of the user's, and not images with labels."""
        return self.factory is not None or self.name == "arrays"
