"""Calibration splits that are refused, each with its reason, and what is said of one that is fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config, DataConfig
from edgeship.core.errors import DataError
from edgeship.data import Images, Splits, check_calibration, load_splits, preprocessing_of, splits_record

LABELS = ("a", "b", "c", "d")
SPEC = preprocessing_of(DataConfig(image_size=8))


def random_pixels(count: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def splits_of(pixels: np.ndarray, labels: np.ndarray | None = None) -> Splits:
    labels = np.arange(len(pixels), dtype=np.int64) % len(LABELS) if labels is None else labels
    other = Images(random_pixels(4, seed=1), np.arange(4, dtype=np.int64))
    return Splits(train=other, calibration=Images(pixels, labels), test=other, labels=LABELS)


def constant(levels: np.ndarray) -> np.ndarray:
    return np.tile(levels[:, None, None], (1, 8, 8)).astype(np.uint8)


def with_value(value: float) -> np.ndarray:
    pixels = random_pixels() / 255
    pixels[33, 4, 5] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (random_pixels(0), r"data\.calibration_images: .* found none"),
        (with_value(np.nan), "expected finite pixels, found 1 image.* with NaN or infinite ones, .* image 33; repair"),
        (with_value(-np.inf), "expected finite pixels, found 1 image.* with NaN"),
        (random_pixels() / 255, "expected uint8 pixels from 0 to 255, found float64; pass"),
        (constant(np.arange(40)), r"constant .* in each of the 40, every pixel is the same \(levels 0 to 39\)"),
        (constant(np.zeros(40)), r"constant .* every pixel is the same \(levels 0 to 0\)"),
        (np.repeat(random_pixels(1), 40, axis=0), "constant .* all 40 are the same image"),
        (random_pixels() % 2, "wrongly scaled .* found 0 and 1 only, as in floats from 0 to 1 that were cast"),
        (random_pixels() % 17, "wrongly scaled .* found 0 to 16 only, which would leave int8 inputs 17 values"),
    ],
)
def test_refused_with_the_reason(pixels, message):
    with pytest.raises(DataError, match=message):
        check_calibration(splits_of(pixels), spec=SPEC)


def test_a_standard_deviation_of_0_to_255_is_refused():
    spec = preprocessing_of(DataConfig(image_size=8, mean=(0.5,), std=(58.4,)))
    message = r"wrongly scaled .* std \[58\.4\] the network sees -0\.00856 to 0\.00856; .* by 255"
    with pytest.raises(DataError, match=message):
        check_calibration(splits_of(random_pixels()), spec=spec)


def test_overflowing_preprocessing_is_refused():
    spec = dataclasses.replace(SPEC, std=(1e-39,))  # 1 / 1e-39 is infinite in float32
    with pytest.raises(DataError, match=r"calibration image 0: NaN or infinite after preprocessing with mean \[0\.0\]"):
        check_calibration(splits_of(random_pixels()), spec=spec)


def test_a_fit_split_is_described_by_size_balance_and_hash():
    splits = load_splits(DataConfig(calibration_images=64))
    found = check_calibration(splits, spec=SPEC)
    record = splits_record(splits)["calibration"]
    assert (found.images, found.sha256) == (64, record["sha256"])
    assert list(found.class_counts) == record["class_counts"]
    assert found.sentences(splits.labels) == [
        f"calibration: 64 images, 6 to 7 of each of 10 classes, levels 0 to 255, sha256 {record['sha256'][:16]}"
    ]


def test_a_missing_class_and_blank_images_are_said_and_not_refused():
    pixels = random_pixels()
    pixels[:3] = 7
    sentences = check_calibration(splits_of(pixels, np.zeros(40, np.int64)), spec=SPEC).sentences(LABELS)
    assert len(sentences) == 3
    assert "warning: no image of b, c, d; the ranges may not cover them" in sentences[1]
    assert "data.calibration_images from 4 on" in sentences[1]
    assert "warning: 3 of 40 images are of one color each" in sentences[2]


def test_one_image_may_be_meant():
    assert check_calibration(splits_of(random_pixels(1)), spec=SPEC).images == 1


def test_it_is_refused_before_anything_is_trained(tmp_path):
    labels = np.arange(90) % 3
    np.savez(tmp_path / "gray.npz", x=constant(np.arange(90)), y=labels)
    data = DataConfig(name="npz", path=str(tmp_path / "gray.npz"), calibration_images=30, test_images=30)
    with pytest.raises(DataError, match="constant calibration images"):
        Pipeline(config=Config(data=data), out=tmp_path / "out").quantize()
    assert not (tmp_path / "out").exists()
