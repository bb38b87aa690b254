"""Augmentation that suits small images, on preprocessed batches."""

from __future__ import annotations

import numpy as np


def augment(batch: np.ndarray, kind: str, generator: np.random.Generator) -> np.ndarray:
    """Vary a batch `(n, size, size, channels)`, float32, the way `train.augmentation` says.

    "none"; "shift": up to an eighth of the size in each direction (edges repeated); "flip": shift, and half of
    the images mirrored. Digits must not be flipped, photographs may.
    """
    if kind == "none":
        return batch
    if kind == "flip":
        mirrored = generator.random(len(batch)) < 0.5
        batch = np.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
    return _shift(batch, generator)


def _shift(batch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count, size = batch.shape[:2]
    most = max(1, size // 8)
    padded = np.pad(batch, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    down, right = generator.integers(0, 2 * most + 1, size=(2, count))
    rows = down[:, None] + np.arange(size)
    columns = right[:, None] + np.arange(size)
    return np.ascontiguousarray(padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]])
