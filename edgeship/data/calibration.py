"""Is the calibration split fit to take integer ranges from? Refused with the reason, or described in two lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeship.core.artifact import Preprocessing
from edgeship.core.errors import DataError
from edgeship.core.text import some
from edgeship.data.images import Images, image_hashes
from edgeship.data.preprocess import preprocess
from edgeship.data.splits import Splits, class_counts, require_calibration, split_sha256

BATCH = 32  # images in memory at a time
# The input's integer grid covers 0 to 255; images on fewer levels than these leave it three bits poorer or more.
LEAST_LEVELS = 32
LARGEST_STD = 4.0  # of pixels from 0 to 1 the standard deviation is 0.5 at most; of pixels from 0 to 255 it is about 60


@dataclass(frozen=True, kw_only=True)
class CalibrationSplit:
    """What there is to say of a calibration split that was found fit."""

    images: int
    sha256: str
    class_counts: tuple[int, ...]  # by class number
    pixels: tuple[int, int]  # the darkest and the brightest level, of 0 to 255
    blank_images: int  # images of one color each

    def sentences(self, labels: tuple[str, ...]) -> list[str]:
        """Its size, balance and hash; then what speaks against it without being a reason to refuse it."""
        counts = self.class_counts
        least, most = min(counts), max(counts)
        per_class = f"{least}" if least == most else f"{least} to {most}"
        lines = [
            f"calibration: {self.images:,} images, {per_class} of each of {len(counts)} classes, "
            f"levels {self.pixels[0]} to {self.pixels[1]}, sha256 {self.sha256[:16]}"
        ]
        if missing := [name for name, count in zip(labels, counts, strict=True) if count == 0]:
            lines.append(
                f"calibration: warning: no image of {some(missing)}; the ranges may not cover them. "
                f"data.calibration_images from {len(counts)} on has every class that the training images have"
            )
        if self.blank_images:
            lines.append(
                f"calibration: warning: {self.blank_images} of {self.images} images are of one color each; "
                "they say nothing about ranges"
            )
        return lines


def check_calibration(splits: Splits, *, spec: Preprocessing) -> CalibrationSplit:
    """Look at every calibration image, a batch at a time.

    Raises:
        DataError: there is none; one is not uint8, or NaN; all are blank or the same; they fill so little of the 256
            levels that they must have been scaled before; `spec` is on another scale than 0 to 1.
    """
    require_calibration(splits)
    _check_scale(spec)
    images = splits.calibration
    if isinstance(images.images, np.ndarray):
        _check_type(images.images)
    lows, highs = [], []
    for start in range(0, len(images), BATCH):
        pixels = list(images.images[start : start + BATCH])
        lows += [int(image.min()) for image in pixels]
        highs += [int(image.max()) for image in pixels]
        with np.errstate(over="ignore"):  # what overflows is refused
            _check_finite(preprocess(pixels, spec), start, spec)
    low, high = np.array(lows), np.array(highs)
    _check_content(images, low, high)
    return CalibrationSplit(
        images=len(images),
        sha256=split_sha256(images),
        class_counts=tuple(class_counts(images, len(splits.labels))),
        pixels=(int(low.min()), int(high.max())),
        blank_images=int(np.count_nonzero(low == high)),
    )


def _check_type(stack: np.ndarray) -> None:
    if stack.dtype == np.uint8:
        return
    if np.issubdtype(stack.dtype, np.floating):
        broken = np.flatnonzero(~np.isfinite(stack).reshape(len(stack), -1).all(axis=1))
        if len(broken):
            raise DataError(
                f"data: calibration images: expected finite pixels, found {len(broken):,} image(s) with NaN or "
                f"infinite ones, the first of them image {int(broken[0])}; repair them"
            )
    raise DataError(
        f"data: calibration images: expected uint8 pixels from 0 to 255, found {stack.dtype}; pass the images as they "
        "were stored, and leave scaling to data.mean and data.std"
    )


def _check_scale(spec: Preprocessing) -> None:
    low, high = spec.input_range
    if max(spec.std) > LARGEST_STD:
        raise DataError(
            f"data: wrongly scaled calibration images: with std {list(spec.std)} the network sees {low:.3g} to "
            f"{high:.3g}; data.mean and data.std are on the 0..1 scale: divide those of 0..255 pixels by 255"
        )


def _check_finite(batch: np.ndarray, start: int, spec: Preprocessing) -> None:
    broken = np.flatnonzero(~np.isfinite(batch).reshape(len(batch), -1).all(axis=1))
    if len(broken):
        raise DataError(
            f"data: calibration image {start + int(broken[0])}: NaN or infinite after preprocessing with mean "
            f"{list(spec.mean)} and std {list(spec.std)}; correct data.mean and data.std"
        )


def _check_content(images: Images, low: np.ndarray, high: np.ndarray) -> None:
    """`low` and `high`: each image's darkest and brightest level."""
    count = len(images)
    if bool((low == high).all()):
        raise DataError(
            f"data: constant calibration images: in each of the {count:,}, every pixel is the same (levels "
            f"{int(low.min())} to {int(high.max())}), and no range can be taken from them; were they read or converted "
            "wrongly?"
        )
    if count > 1 and len(set(image_hashes(images))) == 1:
        raise DataError(
            f"data: constant calibration images: all {count:,} are the same image; bring different ones, or set "
            "data.calibration_images = 1 if that one is meant"
        )
    if int(high.max()) <= 1:
        raise DataError(
            "data: wrongly scaled calibration images: expected levels from 0 to 255, found 0 and 1 only, as in floats "
            "from 0 to 1 that were cast to uint8; store them times 255"
        )
    levels = int(high.max()) - int(low.min()) + 1
    if levels < LEAST_LEVELS:
        raise DataError(
            f"data: wrongly scaled calibration images: expected levels from 0 to 255, found {int(low.min())} to "
            f"{int(high.max())} only, which would leave int8 inputs {levels} values; stretch them to 0..255"
        )
