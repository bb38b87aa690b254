"""Which classes suffer? How often each class is right, and what is answered in its place."""

from __future__ import annotations

import numpy as np

from edgeship.core.evidence import MOST_CLASSES, ClassCounts


def count_classes(answers: np.ndarray, labels: np.ndarray, *, classes: int) -> ClassCounts:
    """Count answers by class.

    Args:
        answers, labels: int64 of shape (n,), example by example, each from 0 to `classes` - 1.
    """
    right = labels[answers == labels]
    confusion = None
    if classes <= MOST_CLASSES:
        cells = np.bincount(labels * classes + answers, minlength=classes**2)
        confusion = tuple(tuple(map(int, line)) for line in cells.reshape(classes, classes))
    return ClassCounts(
        examples=_counts(labels, classes), answered=_counts(answers, classes), right=_counts(right, classes),
        confusion=confusion,
    )


def _counts(values: np.ndarray, classes: int) -> tuple[int, ...]:
    return tuple(map(int, np.bincount(values, minlength=classes)))
