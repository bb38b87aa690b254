"""From the values a tensor takes on calibration images to its integer range: min-max, percentile, MSE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

# Values kept per batch, evenly spaced in the tensor: enough that one in 10,000 is seen some 50 times in 16 batches.
SAMPLES_PER_BATCH = 32_768
# The share of values that a percentile range leaves out at each end (NVIDIA's and ONNX Runtime's usual 99.99 %).
OUTSIDE_PERCENT = 0.01
STEPS_8_BIT = 255
# Ends of the range that the MSE search tries, as shares of the extreme; of equals the first wins, which clips least.
SHARES = tuple(float(share) for share in np.linspace(1.0, 0.2, 81))
BINS = 2**15  # 128 per step of the whole range, 26 at a fifth of it


@dataclass
class Seen:
    """What the tensors of one grid were seen to hold: every batch's extremes, and a sample of their values."""

    extremes: dict[int, list[tuple[float, float]]] = field(default_factory=dict)  # by the tensor's number
    samples: list[np.ndarray] = field(default_factory=list)
    tops: list[np.ndarray] = field(default_factory=list)  # of logits: the largest of each answer
    keeps_samples: bool = True  # min-max needs the extremes alone

    def add(self, values: np.ndarray, *, member: int = 0, logits: bool = False) -> None:
        """Record one batch of one of the tensors, of shape (images, ..., channels)."""
        if logits:
            self.tops.append(np.sort(values.max(axis=-1), axis=None)[:SAMPLES_PER_BATCH].astype(np.float32))
        self.extremes.setdefault(member, []).append((float(values.min()), float(values.max())))
        if self.keeps_samples:
            self.samples.append(self._sample(values))

    @staticmethod
    def _sample(values: np.ndarray) -> np.ndarray:
        stride = max(1, values.size // SAMPLES_PER_BATCH)
        # A stride that divides an image's size evenly would see some of its channels or columns only.
        while math.gcd(stride, math.prod(values.shape[1:])) > 1:
            stride += 1
        return values.reshape(-1)[::stride].astype(np.float32)

    @property
    def values(self) -> np.ndarray:
        """The sample of all batches."""
        return np.concatenate(self.samples)

    @property
    def is_finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return all(np.all(np.isfinite(extremes)) for extremes in self.extremes.values())


def min_max(seen: Seen) -> tuple[float, float]:
    """The smallest and largest value of all: nothing is clipped, and one outlier sets the scale."""
    lows, highs = np.concatenate([np.array(extremes) for extremes in seen.extremes.values()]).T
    return float(lows.min()), float(highs.max())


def batch_mean(seen: Seen) -> tuple[float, float]:
    """The mean of the batches' extremes, which is what a moving average over batches tends to."""
    lows, highs = np.array([np.mean(extremes, axis=0) for extremes in seen.extremes.values()]).T
    return float(lows.min()), float(highs.max())


def percentile(seen: Seen) -> tuple[float, float]:
    """All values but one in 10,000 at each end."""
    low, high = np.percentile(seen.values, [OUTSIDE_PERCENT, 100 - OUTSIDE_PERCENT])
    # A tensor that is mostly zeros has its percentile at zero; a range must not be empty.
    return (float(low), float(high)) if min(low, 0) < max(high, 0) else min_max(seen)


def mse(seen: Seen) -> tuple[float, float]:
    """The range with the smallest mean squared error between the values and their 8-bit form.

    Both ends together are tried at each of `SHARES` of the extremes, then either end alone: a range that is clipped
    for an outlier above must not be clipped below as well (Nagel et al. 2021, "A White Paper on Neural Network
    Quantization", section 3.1, minimize over both ends).
    """
    least, most = min_max(seen)
    least, most = min(least, 0.0), max(most, 0.0)
    if least == most:
        return least, most
    values, counts = _histogram(seen.values)

    def best(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
        return min(ranges, key=lambda ends: _squared_error(values, counts, *ends))

    low, high = best((least * share, most * share) for share in SHARES)
    low, high = best((low, most * share) for share in SHARES)
    return best((least * share, high) for share in SHARES)


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, count) of the values in each of `BINS` equal bins that has any: some 30 times fewer than the values."""
    counts, edges = np.histogram(values, BINS)
    sums, _ = np.histogram(values, edges, weights=values)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0]


def _squared_error(values: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    if low == high:
        return math.inf
    scale = (high - low) / STEPS_8_BIT
    first = np.rint(low / scale)
    codes = np.clip(np.rint(values / scale), first, first + STEPS_8_BIT)
    return float(np.sum(counts * (codes * scale - values) ** 2))


MIN_MAX = "min-max"
CALIBRATIONS: dict[str, Callable[[Seen], tuple[float, float]]] = {
    MIN_MAX: min_max, "batch-mean": batch_mean, "percentile": percentile, "mse": mse,
}
