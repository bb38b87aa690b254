"""Does it compute the same? Signal to noise against float Keras, integers against integers of one grid."""

from __future__ import annotations

import math

import numpy as np

from edgeship.artifact import TensorSpec
from edgeship.measurement import Agreement, Parity
from edgeship.quantization import dequantize, grid_steps, is_integer
from validate.accuracy import gains_and_losses
from validate.proportions import paired_difference_interval
from validate.rows import Measured


def sqnr_db(signal: np.ndarray, approximation: np.ndarray) -> float | None:
    """10 log10(sum signal^2 / sum (signal - approximation)^2) in dB, over all elements.

    None where it is not finite: equal arrays (the maximal error, 0, then says so), or a signal of zeros.
    """
    exact = signal.astype(np.float64)
    power = float(np.sum(exact**2))
    noise = float(np.sum((exact - approximation.astype(np.float64)) ** 2))
    return 10 * math.log10(power / noise) if power > 0 and noise > 0 else None


def measure_parity(
    row: Measured,
    float_outputs: np.ndarray,
    *,
    sibling: Measured | None,
) -> Parity:
    """Parity of one row.

    Args:
        row: what it answered.
        float_outputs: float32 (n_golden, classes) by float Keras.
        sibling: a row on the same grid, over the same test images, if there is one.
    """
    values = dequantize(row.golden_outputs, row.output_spec)
    steps = None if sibling is None else _steps_between(row, sibling)
    return Parity(
        sqnr_db=sqnr_db(float_outputs, values),
        max_abs_error=float(np.max(np.abs(float_outputs - values))),
        sibling=None if sibling is None else sibling.label,
        max_lsb=None if steps is None else int(steps.max()),
        differing_share=None if steps is None else float(np.mean(steps > 0)),
        sibling_agreement=None if sibling is None else float(np.mean(row.top1 == sibling.top1)),
    )


def measure_agreement(first: Measured, second: Measured, labels: np.ndarray) -> Agreement:
    """Two rows on the same test images; `labels` is int64 (n,)."""
    gained, lost = gains_and_losses(first.top1 == labels, second.top1 == labels)
    steps = _steps_between(first, second)
    return Agreement(
        first=first.label,
        second=second.label,
        images=len(labels),
        top1_agreement=float(np.mean(first.top1 == second.top1)),
        max_lsb=None if steps is None else int(steps.max()),
        differing_share=None if steps is None else float(np.mean(steps > 0)),
        accuracy_delta=(gained - lost) / len(labels),
        accuracy_delta_ci95=paired_difference_interval(gained=gained, lost=lost, count=len(labels)),
    )


def golden_lsb(answered: np.ndarray, expected: np.ndarray, spec: TensorSpec) -> int | None:
    """The largest difference between two integer outputs of one artifact; None for a float artifact."""
    if not is_integer(spec):
        return None
    return int(np.abs(grid_steps(answered, spec) - grid_steps(expected, spec)).max())


def _steps_between(first: Measured, second: Measured) -> np.ndarray | None:
    """|difference| of the test outputs in LSB, (n, classes); None where they are not on one grid."""
    if first.outputs is None or second.outputs is None or first.output_spec.scale is None:
        return None
    if second.output_spec.scale is None or np.float32(first.output_spec.scale) != np.float32(
        second.output_spec.scale
    ):
        return None
    steps: np.ndarray = np.abs(
        grid_steps(first.outputs, first.output_spec) - grid_steps(second.outputs, second.output_spec)
    )
    return steps
