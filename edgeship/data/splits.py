"""Disjoint training, calibration and test images, drawn the same way whenever the configuration is the same.

The test split depends on the dataset, `data.test_images` and `data.seed` only, so `load_test_split` need not
look at the other images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from edgeship.core.config import DataConfig
from edgeship.core.errors import DataError
from edgeship.data.images import Images, image_hashes
from edgeship.data.loaders import load_source
from edgeship.data.source import Source

# One stream of random numbers per draw: asking for more calibration images must not change the test split.
TEST_STREAM, CALIBRATION_STREAM, TRAIN_STREAM, VALIDATION_STREAM = range(4)


@dataclass(frozen=True, eq=False, kw_only=True)
class Splits:
    """Three parts of a dataset; no image is in two of them."""

    train: Images
    calibration: Images
    test: Images
    labels: tuple[str, ...]
    # Images left out of train and calibration because the same image is in test, or out of train because it
    # is in calibration; counted before `data.train_images` and `data.calibration_images` limit the parts.
    removed_duplicates: int = 0


def load_splits(config: DataConfig) -> Splits:
    """Load a dataset and split it.

    Test: the dataset's own test split (or `test_images` of it), else drawn with every class's share kept.
    Calibration: drawn from the rest, equally many of each class as far as they go. Train: what is left, or
    `train_images` of it with every class's share kept. Images stay in the dataset's order. Copies of one
    image in two parts are removed and counted in `removed_duplicates`.

    Raises:
        DataError: the data cannot be read, or there are fewer images than the configuration asks for.
    """
    source = load_source(config)
    test, rest = _draw_test(source, config)
    rest, copies_of_test = _without(rest, test)
    calibration_indices = _draw_calibration(rest, config)
    calibration = rest.select(calibration_indices)
    train, copies_of_calibration = _without(
        rest.select(np.setdiff1d(np.arange(len(rest)), calibration_indices)), calibration
    )
    if config.train_images is not None:
        _require_enough("train_images", config.train_images, len(train))
        train = train.select(_draw(train.labels, config.train_images, _proportional, config.seed, TRAIN_STREAM))
    splits = Splits(
        train=train,
        calibration=calibration,
        test=test,
        labels=source.labels,
        removed_duplicates=copies_of_test + copies_of_calibration,
    )
    require_disjoint(splits)
    return splits


def load_test_split(config: DataConfig) -> Images:
    """`load_splits(config).test`, without looking at the training images. Raises DataError."""
    return _draw_test(load_source(config), config)[0]


def require_disjoint(splits: Splits) -> None:
    """Check by content that no image is in two parts.

    Raises:
        DataError: one is; the two parts, how many images they share and the first of them are named.
    """
    parts = {name: image_hashes(images) for name, images in _parts(splits).items()}
    for one, other in combinations(parts, 2):
        shared = set(parts[one]) & set(parts[other])
        if shared:
            position = next(index for index, value in enumerate(parts[one]) if value in shared)
            raise DataError(
                f"data: expected disjoint splits, found {len(shared)} image(s) in both {one} and {other}, "
                f"the first of them image {position} of {one}; split the images again with load_splits"
            )


def require_calibration(splits: Splits) -> None:
    """Refuse splits without calibration images. Raises DataError."""
    if len(splits.calibration) == 0:
        raise DataError(
            "data.calibration_images: quantization needs calibration images, found none; set it to 1 or more "
            "(512 is the default) and leave enough training images to draw them from"
        )


def split_sha256(images: Images) -> str:
    """The hexadecimal SHA-256 over every image's hash and label, in order. Raises DataError."""
    digest = hashlib.sha256()
    for image, label in zip(image_hashes(images), images.labels.tolist(), strict=True):
        digest.update(f"{image} {label}\n".encode())
    return digest.hexdigest()


def splits_record(splits: Splits) -> dict[str, dict[str, Any]]:
    """What a manifest says of each part: `{"train": {"images", "sha256", "class_counts"}, ...}`.

    Raises:
        DataError: an image file cannot be read.
    """
    return {
        name: {
            "images": len(images),
            "sha256": split_sha256(images),
            "class_counts": class_counts(images, len(splits.labels)),
        }
        for name, images in _parts(splits).items()
    }


def class_counts(images: Images, classes: int) -> list[int]:
    """How many images there are of each class."""
    counts: list[int] = np.bincount(images.labels, minlength=classes).tolist()
    return counts


def hold_out(images: Images, count: int, *, seed: int) -> tuple[Images, Images]:
    """(the rest, `count` of `images` with every class's share kept); copies of held-out images leave the rest too.

    For choosing among epochs: a slice of the training split, since the test split must not choose anything.

    Raises:
        DataError: fewer images than that would be left to train on.
    """
    if count >= len(images):
        raise DataError(
            f"validation_images: expected fewer than the {len(images):,} training images, found {count:,}; lower it"
        )
    chosen = _draw(images.labels, count, _proportional, seed, VALIDATION_STREAM)
    held_out = images.select(chosen)
    rest, _ = _without(images.select(np.setdiff1d(np.arange(len(images)), chosen)), held_out)
    return rest, held_out


def _parts(splits: Splits) -> dict[str, Images]:
    return {"train": splits.train, "calibration": splits.calibration, "test": splits.test}


def _draw_test(source: Source, config: DataConfig) -> tuple[Images, Images]:
    """(test, everything that train and calibration may be drawn from)."""
    count = config.test_images
    if source.test is not None:
        if count is None:
            return source.test, source.train
        _require_enough("test_images", count, len(source.test))
        order = _random(config.seed, TEST_STREAM).permutation(len(source.test))
        return source.test.select(np.sort(order[:count])), source.train
    count = source.default_test_images if count is None else count
    if count is None:
        raise DataError(
            f"data.test_images: {source.where} has no test split of its own; "
            f"say how many of its {len(source.train)} images to hold out"
        )
    _require_enough("test_images", count, len(source.train))
    chosen = _draw(source.train.labels, count, _proportional, config.seed, TEST_STREAM)
    rest = np.setdiff1d(np.arange(len(source.train)), chosen)
    return source.train.select(chosen), source.train.select(rest)


def _draw_calibration(rest: Images, config: DataConfig) -> np.ndarray:
    # Nothing left is no error here: `validate` needs the test split only, and `quantize` says what it misses.
    count = config.calibration_images if len(rest) else 0
    if count > len(rest):
        raise DataError(
            f"data.calibration_images: expected at least {count:,} images to draw from (512 is the default), found "
            f"{len(rest):,} beside the test split; set it to fewer, so that images are left for training, or bring more"
        )
    return _draw(rest.labels, count, _even, config.seed, CALIBRATION_STREAM)


def _without(images: Images, others: Images) -> tuple[Images, int]:
    """(`images` without those whose content is in `others`, how many these were)."""
    known = set(image_hashes(others))
    keep = np.array([value not in known for value in image_hashes(images)], dtype=bool)
    return images.select(np.flatnonzero(keep)), int(np.count_nonzero(~keep))


def _draw(
    labels: np.ndarray,
    count: int,
    quotas: Callable[[np.ndarray, int], np.ndarray],
    seed: int,
    stream: int,
) -> np.ndarray:
    """Sorted indices of `count` images; `quotas` says how many of each class."""
    random = _random(seed, stream)
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [
        random.permutation(np.flatnonzero(labels == label))[:quota]
        for label, quota in zip(classes, quotas(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def _proportional(sizes: np.ndarray, count: int) -> np.ndarray:
    """Quotas that keep each class's share; the classes cut most by rounding down get what is left over."""
    exact_times_total = sizes * count
    quotas = exact_times_total // max(int(sizes.sum()), 1)
    cut = exact_times_total % max(int(sizes.sum()), 1)
    quotas[np.argsort(-cut, kind="stable")[: count - int(quotas.sum())]] += 1
    return quotas


def _even(sizes: np.ndarray, count: int) -> np.ndarray:
    """Quotas as equal as the classes allow: a small class gives all it has, the others share the rest."""
    quotas = np.zeros_like(sizes)
    order = np.argsort(sizes, kind="stable")
    for position, label in enumerate(order):
        quotas[label] = min(int(sizes[label]), (count - int(quotas.sum())) // (len(order) - position))
    return quotas


def _random(seed: int, stream: int) -> np.random.RandomState:
    if not 0 <= seed < 2**32:
        raise DataError(f"data.seed: expected 0 to {2**32 - 1}, found {seed}; change it")
    # The legacy generator, since NumPy promises that its numbers never change; splits must outlive upgrades.
    return np.random.RandomState([seed, stream])


def _require_enough(key: str, asked: int, left: int) -> None:
    if asked > left:
        raise DataError(
            f"data.{key}: expected at least {asked:,} images to draw from, found {left:,} that are left; "
            f"lower data.{key} or bring more images"
        )
