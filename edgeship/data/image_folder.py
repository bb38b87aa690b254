"""A folder of image files, one folder per class, decoded only when an image is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.core.text import some
from edgeship.data.images import ImageFiles, Images
from edgeship.data.source import Source, path_of

SUFFIXES = (".jpeg", ".jpg", ".png")
OTHER_IMAGE_SUFFIXES = (".bmp", ".gif", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("test", "val")  # the first that exists is the test split


def load_image_folder(config: DataConfig) -> Source:
    """`data.path/train/<class>/*` with `test/` or `val/` beside it, or `data.path/<class>/*` without splits.

    Classes are the folders' names, sorted; JPEG and PNG files are their images, sorted by name, whatever the
    case of their suffix. Where both `test/` and `val/` exist, `test/` is the test split and `val/` is not
    read. Names that start with a dot and files that are no images (notes, archives) are passed over.

    Raises:
        DataError: a folder is missing, has no classes or a class without images; an image of another format;
            the test split has other classes than the training split.
    """
    folder = path_of(config, "a folder with one folder of images per class")
    if not folder.is_dir():
        raise DataError(f"data.path: {folder}: expected a folder of images, found no such folder; correct it")
    tests = [folder / name for name in TEST_FOLDERS if (folder / name).is_dir()]
    if not (folder / "train").is_dir():
        # A class may be called "test", but not where it would be the split of that name.
        if tests:
            raise DataError(f"{folder}: expected a folder train beside {tests[0].name}, found none; add it")
        tests, train = [], folder
    else:
        train = folder / "train"
    classes = _class_names(train)
    if tests:
        _check_same_classes(tests[0], _class_names(tests[0]), classes)
    return Source(
        where=str(folder),
        train=_images(train, classes, config.channels),
        test=_images(tests[0], classes, config.channels) if tests else None,
        labels=classes,
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    folders = (entry for entry in folder.iterdir() if entry.is_dir())
    names = sorted(entry.name for entry in folders if not entry.name.startswith("."))
    if not names:
        raise DataError(
            f"{folder}: expected one folder per class, found none; put the images into folders named by class"
        )
    return tuple(names)


def _check_same_classes(folder: Path, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found == expected:
        return
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    raise DataError(
        f"{folder}: labels that do not match the training folder's {len(expected)} classes: "
        f"missing {some(missing)}, unknown {some(unknown)}; give both the same class folders"
    )


def _images(folder: Path, classes: tuple[str, ...], channels: int) -> Images:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = _image_files(folder / name)
        paths += files
        labels += [label] * len(files)
    return Images(ImageFiles(paths, channels=channels), np.array(labels, np.int64))


def _image_files(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for path in entries:
        if path.suffix.lower() in OTHER_IMAGE_SUFFIXES:
            raise DataError(f"{path}: expected JPEG or PNG, found {path.suffix}; convert it or remove it")
    files = [path for path in entries if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(
            f"{folder}: expected images ({', '.join(SUFFIXES)}), found none; add some or remove the class"
        )
    return files
