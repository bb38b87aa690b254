"""TFRecord files of tf.train.Example, as ImageNet is often kept, read without TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images
from edgeship.data.records import TEXT, RecordImages, RecordIndex, read_index
from edgeship.data.source import Source, path_of

TRAIN, TESTS = "train", ("test", "validation")  # of the latter the first that exists is the test split
NAMES_FILE = "labels.txt"
SHARD = re.compile(r"-(\d+)-of-(\d+)")


def load_tfrecord(config: DataConfig) -> Source:
    """`data.path` with files `train-*`, and `test-*` or `validation-*` where there is a test split.

    Each record is an Example with `image/encoded` (a JPEG or PNG), `image/class/label` (int64, from
    `data.first_label` on) and perhaps `image/class/text`. The classes' names are the lines of `labels.txt` in the same
    folder, in the labels' order; without it they are the texts, and without these the numbers.

    Raises:
        DataError: no such folder or files, a shard that is missing, a damaged record, labels or names that do not
            match.
    """
    folder = path_of(config, f"a folder of TFRecord files {TRAIN}-* and {TESTS[0]}-*")
    if not folder.is_dir():
        raise DataError(f"data.path: {folder}: expected a folder of TFRecord files, found no such folder; correct it")
    train = read_index(_files(folder, TRAIN))
    if not len(train):
        raise DataError(f"data.path: {folder}: expected files called {TRAIN}-* with records, found none; add them")
    labels = _names(folder, train, config.first_label)
    test = next((files for name in TESTS if (files := _files(folder, name))), None)
    return Source(
        where=str(folder), labels=labels,
        train=_images(folder, train, config, labels),
        test=None if test is None else _images(folder, read_index(test), config, labels),
    )


def _files(folder: Path, part: str) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.name.startswith(f"{part}-") and path.is_file())
    shards: dict[int, set[int]] = {}
    for path in files:
        if found := SHARD.search(path.name):
            shards.setdefault(int(found[2]), set()).add(int(found[1]))
    for count, present in shards.items():
        if missing := sorted(set(range(count)) - present):
            raise DataError(
                f"{folder}: expected all {count:,} files {part}-*-of-{count:05d}, found {len(present):,}; the first "
                f"that is missing is number {missing[0]:05d}; fetch it"
            )
    return files


def _names(folder: Path, train: RecordIndex, first_label: int) -> tuple[str, ...]:
    path = folder / NAMES_FILE
    if path.is_file():
        try:
            return _distinct(str(path), path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}: expected one name per line in UTF-8, found a file that cannot be read so ({error}); "
                "write it again"
            ) from error
    numbers = range(first_label, max(int(train.labels.max()), first_label) + 1)
    if not train.texts:
        return tuple(str(position) for position in range(len(numbers)))
    if missing := [number for number in numbers if number not in train.texts]:
        raise DataError(
            f"{folder}: expected {TEXT} for each label from {numbers[0]} (data.first_label) to {numbers[-1]}, "
            f"found none for {len(missing)}, the first of them {missing[0]}; write {NAMES_FILE} with one name per line"
        )
    return _distinct(f"{folder}: {TEXT}", [train.texts[number] for number in numbers])


def _distinct(where: str, names: list[str]) -> tuple[str, ...]:
    if "" in names or len(set(names)) != len(names):
        raise DataError(
            f"{where}: expected one distinct name per class, found {len(names)} lines or labels with {len(set(names))} "
            f"different names{', an empty one among them' if '' in names else ''}; correct {NAMES_FILE}, or write it"
        )
    return tuple(names)


def _images(folder: Path, index: RecordIndex, config: DataConfig, labels: tuple[str, ...]) -> Images:
    numbers = index.labels - config.first_label
    if len(index) and not (numbers.min() >= 0 and numbers.max() < len(labels)):
        raise DataError(
            f"{folder}: labels that do not match the classes: expected {config.first_label} (data.first_label) to "
            f"{config.first_label + len(labels) - 1} ({len(labels)} classes), found {index.labels.min()} to "
            f"{index.labels.max()}; set data.first_label (ImageNet's is 1), or correct the names"
        )
    return Images(RecordImages(index, np.arange(len(index)), channels=config.channels), numbers)
