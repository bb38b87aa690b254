"""Cells that the benchmarks' tables have in common."""

from __future__ import annotations

import numpy as np

from edgeship.validate.questions.proportions import paired_difference_interval


def points(before: np.ndarray, after: np.ndarray) -> str:
    """Return by how many points of accuracy two answers to the same examples differ, with the paired 95 % interval.

    Args:
        before, after: which examples were answered right, bool `(examples,)`.
    """
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    low, high = paired_difference_interval(gained=gained, lost=lost, count=len(before))
    return f"{100 * (gained - lost) / len(before):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def decibels(value: float | None) -> str:
    """Return a ratio of signal to noise; None: there is no noise."""
    return "exact" if value is None else f"{value:.1f}"
