"""Hodges-Lehmann's estimate with exact Wilcoxon signed-rank bounds: what a few paired differences say of their center.

Exact for any symmetric distribution of the differences, so neither outliers nor heavy tails spoil the level; launches
of a process have both. (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, 3rd ed., sections 3.2 and 3.3.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def walsh_averages(values: Sequence[float]) -> np.ndarray:
    """The sorted means of all pairs, each value with itself too; float64 (n (n + 1) / 2,)."""
    array = np.asarray(values, np.float64)
    rows, columns = np.triu_indices(len(array))
    averages: np.ndarray = np.sort((array[rows] + array[columns]) / 2)
    return averages


def hodges_lehmann(values: Sequence[float]) -> float:
    """The median of the Walsh averages; `values` has at least one element."""
    return float(np.median(walsh_averages(values)))


def lower_bound(values: Sequence[float], *, level: float) -> float:
    """The center is above it, except with probability `level` at most; -inf where so few values cannot say."""
    rank = critical_rank(len(values), level)
    return -math.inf if rank is None else float(walsh_averages(values)[rank])


def upper_bound(values: Sequence[float], *, level: float) -> float:
    """The center is below it, except with probability `level` at most; inf where so few values cannot say."""
    return -lower_bound([-value for value in values], level=level)


@functools.cache
def critical_rank(count: int, level: float) -> int | None:
    """The largest c with P(W <= c) <= level under the null hypothesis; None where even P(W = 0) is above it."""
    cumulative = np.cumsum(null_counts(count)) / 2.0**count
    rank = int(np.searchsorted(cumulative, level, side="right")) - 1
    return None if rank < 0 else rank


@functools.cache
def null_counts(count: int) -> tuple[int, ...]:
    """How many of the 2^count signs give each value 0 .. count (count + 1) / 2 of the signed-rank statistic."""
    ways = [1]
    for rank in range(1, count + 1):  # each rank is in the sum or not
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if 0 <= total - rank < len(ways) else 0)
            for total in range(len(ways) + rank)
        ]
    return tuple(ways)


def student_t_quantile(probability: float, degrees: int) -> float:
    """Student's t from the normal quantile (Abramowitz and Stegun 26.7.5): within 1 % from 5 degrees up."""
    z: float = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
