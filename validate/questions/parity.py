"""Does it compute the same? Signal to noise against float Keras, integers against integers of one grid."""

from __future__ import annotations

import math

import numpy as np

from edgeship.core.artifact import TensorSpec
from edgeship.core.bounds import (
    least_agreement,
    least_sqnr_between_formats_db,
    least_sqnr_db,
    least_sqnr_of_siblings_db,
)
from edgeship.core.integers import dequantize, grid_steps, is_integer, quantize, sqnr_db
from edgeship.core.measurement import Agreement, Parity
from edgeship.validate.questions.accuracy import gains_and_losses
from edgeship.validate.questions.proportions import paired_difference_interval
from edgeship.validate.subject.rows import Measured

MOST_PRODUCTS = 1000  # in a file that cannot be read here: more lower the bound


def measure_parity(
    row: Measured,
    float_outputs: np.ndarray,
    *,
    sibling: Measured | None,
    products: int = MOST_PRODUCTS,
) -> Parity:
    """Parity of one row.

    Args:
        row: what it answered.
        float_outputs: float32 (n_golden, classes) by float Keras.
        sibling: a row on the same grid (or the same float file), over the same test images, if there is one.
        products: convolutions and matrix products with weights in its file.
    """
    assert row.golden_outputs is not None
    scheme = row.candidate.scheme
    values = dequantize(row.golden_outputs, row.output_spec)
    steps = None if sibling is None else _steps_between(row, sibling)
    return Parity(
        sqnr_db=sqnr_db(float_outputs, values),
        max_abs_error=float(np.max(np.abs(float_outputs - values))),
        sibling=None if sibling is None else sibling.label,
        max_lsb=None if steps is None else int(steps.max()),
        differing_share=None if steps is None else float(np.mean(steps > 0)),
        sibling_agreement=None if sibling is None else _agreement(row, sibling),
        sibling_max_abs=None if sibling is None else _golden_distance(values, sibling),
        least_sqnr_db=None if row.candidate.artifact is None else least_sqnr_db(scheme, products=products),
        least_agreement=None if row.candidate.artifact is None else least_agreement(scheme, products=products),
    )


def _agreement(first: Measured, second: Measured) -> float | None:
    """The share of the test images that both give one class; None where one did not run on them."""
    if first.top1 is None or second.top1 is None:
        return None
    return float(np.mean(first.top1 == second.top1))


def _golden_distance(values: np.ndarray, sibling: Measured) -> float | None:
    """The largest difference of two rows' real outputs on the golden images."""
    if sibling.golden_outputs is None:
        return None
    return float(np.max(np.abs(values - dequantize(sibling.golden_outputs, sibling.output_spec))))


def measure_agreement(
    first: Measured, second: Measured, labels: np.ndarray, *, float_outputs: np.ndarray | None = None
) -> Agreement:
    """Two rows that ran on the same test images; `labels` is int64 (n,).

    `float_outputs`, float32 (n_golden, classes) by float Keras, are given for two formats of one model: how far these
    part is held against what their rounding explains.
    """
    assert first.top1 is not None and second.top1 is not None
    sqnr, least = (None, None) if float_outputs is None else _between(first, second, float_outputs)
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
        sqnr_db=sqnr,
        least_sqnr_db=least,
    )


def _between(
    first: Measured, second: Measured, float_outputs: np.ndarray
) -> tuple[float | None, float | None]:
    """The SQNR of the one's golden outputs against the other's, and the least that rounding explains; None: equal."""
    if first.golden_outputs is None or second.golden_outputs is None:
        return None, None
    one, other = (dequantize(row.golden_outputs, row.output_spec) for row in (first, second))  # type: ignore[arg-type]
    same_numbers = least_sqnr_between_formats_db(first.candidate.scheme)
    if same_numbers is not None:
        return sqnr_db(one, other), same_numbers
    from_float = [sqnr_db(float_outputs, values) for values in (one, other)]
    known = [math.inf if db is None else db for db in from_float]
    least = least_sqnr_of_siblings_db(*known)
    return sqnr_db(one, other), least if math.isfinite(least) else None


def on_grid(outputs: np.ndarray, spec: TensorSpec, grid: TensorSpec) -> np.ndarray:
    """Outputs as integers of `grid`: as they are, or, of an integer file with float outputs, quantized back.

    Exact: each of those floats is scale * (q - zero_point), and `quantize` rounds to the nearest q.
    """
    return outputs if is_integer(spec) else quantize(outputs, grid)


def golden_lsb(answered: np.ndarray, expected: np.ndarray, spec: TensorSpec) -> int | None:
    """The largest difference between two integer outputs of one artifact; None for float outputs."""
    if not is_integer(spec):
        return None
    return int(np.abs(grid_steps(answered, spec) - grid_steps(expected, spec)).max())


def _steps_between(first: Measured, second: Measured) -> np.ndarray | None:
    """|difference| of the test outputs in LSB, (n, classes); None where they are not on one grid."""
    grids = first.grid_spec, second.grid_spec
    if first.outputs is None or second.outputs is None or grids[0] is None or grids[1] is None:
        return None
    if grids[0].scale is None or np.float32(grids[0].scale) != np.float32(grids[1].scale or 0):
        return None
    steps: np.ndarray = np.abs(grid_steps(first.outputs, grids[0]) - grid_steps(second.outputs, grids[1]))
    return steps
