"""Augmentation that suits small images."""

from __future__ import annotations

import numpy as np


def augment(
    batch: np.ndarray, kind: str, generator: np.random.Generator, *, whole: int | None = None, rows: slice = slice(None)
) -> np.ndarray:
    """Vary a batch `(n, size, size, channels)` of any dtype the way `train.augmentation` says.

    "none"; "shift": up to an eighth of the size in each direction (edges repeated); "flip": shift, and half of
    the images mirrored. Digits must not be flipped, photographs may.

    A worker that holds only `rows` of a batch of `whole` images varies them as one that holds all would.
    """
    if kind == "none":
        return batch
    whole, size = len(batch) if whole is None else whole, batch.shape[1]
    mirrored = (generator.random(whole) < 0.5)[rows] if kind == "flip" else np.zeros(len(batch), bool)
    most = max(1, size // 8)
    down, right = generator.integers(0, 2 * most + 1, size=(2, whole))[:, rows]  # `most` is no shift
    padded = np.pad(batch, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    varied = np.empty_like(batch)
    for position, (top, left) in enumerate(zip(down, right, strict=True)):
        # A mirrored image is shifted after it was mirrored, so its window is the mirrored one.
        start = 2 * most - left if mirrored[position] else left
        window = padded[position, top : top + size, start : start + size]
        varied[position] = window[:, ::-1] if mirrored[position] else window
    return varied
