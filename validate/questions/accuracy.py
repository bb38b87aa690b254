"""Is it still right? Top-1 on the test images, paired with float Keras on the same images."""

from __future__ import annotations

import numpy as np

from edgeship.core.measurement import Accuracy
from edgeship.validate.questions.proportions import mcnemar_p, paired_difference_interval, wilson_interval


def measure_accuracy(
    top1: np.ndarray, labels: np.ndarray, *, float_top1: np.ndarray | None, codes: np.ndarray | None = None
) -> Accuracy:
    """Compare predictions with labels, and with float Keras's predictions where there are any.

    Args:
        top1, labels, float_top1: int64 of shape (n,), image by image.
        codes: the outputs as integers of one grid, (n, classes); None for float outputs.
    """
    count = len(labels)
    right = top1 == labels
    top1_share = float(np.mean(right))
    top1_ci95 = wilson_interval(int(right.sum()), count)
    if float_top1 is None:
        return Accuracy(
            images=count, top1=top1_share, top1_ci95=top1_ci95,
            float_top1=None, delta=None, delta_ci95=None, mcnemar_p=None, agreement=None,
        )
    float_right = float_top1 == labels
    gained, lost = gains_and_losses(float_right, right)
    return Accuracy(
        images=count,
        top1=top1_share,
        top1_ci95=top1_ci95,
        float_top1=float(np.mean(float_right)),
        delta=(gained - lost) / count,
        delta_ci95=paired_difference_interval(gained=gained, lost=lost, count=count),
        mcnemar_p=mcnemar_p(gained=gained, lost=lost),
        agreement=float(np.mean(top1 == float_top1)),
        tied_share=None if codes is None else tied_share(codes),
    )


def tied_share(codes: np.ndarray) -> float:
    """Return the share of images for which several classes have the largest code.

    Args:
        codes: integers of one grid, (n, classes).
    """
    largest = codes.max(axis=1, keepdims=True)
    return float(np.mean(np.sum(codes == largest, axis=1) > 1))


def gains_and_losses(first_right: np.ndarray, second_right: np.ndarray) -> tuple[int, int]:
    """bool (n,), bool (n,) -> how many images only the second has right, and how many only the first."""
    return int(np.sum(second_right & ~first_right)), int(np.sum(first_right & ~second_right))
