"""Does it compute the same? Signal to noise against float Keras, integers against integers of one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeship.core.artifact import TensorSpec
from edgeship.core.bounds import (
    least_agreement,
    least_agreement_of_siblings,
    least_sqnr_between_formats_db,
    least_sqnr_db,
    least_sqnr_of_siblings_db,
)
from edgeship.core.integers import dequantize, grid_steps, is_integer, quantize, sqnr_db
from edgeship.core.measurement import Agreement, Parity
from edgeship.data.examples import Batch
from edgeship.graph.content import UNKNOWN, Content
from edgeship.validate.questions.accuracy import gains_and_losses
from edgeship.validate.questions.proportions import paired_difference_interval
from edgeship.validate.subject.rows import Measured


def measure_parity(
    row: Measured,
    float_outputs: Batch,
    *,
    sibling: Measured | None,
    content: Content = UNKNOWN,
    float_decisions: np.ndarray | None = None,
) -> Parity:
    """Parity of one row. Of several outputs the worst counts.

    Args:
        row: what it answered.
        float_outputs: float32 (n_golden, ...) by float Keras, one array per output.
        sibling: a row on the same grid (or the same float file), over the same test examples, if there is one.
        content: what its file holds.
        float_decisions: float Keras's classes or labels for the test examples, where its answers are any.
    """
    assert row.golden_outputs is not None
    scheme = row.candidate.scheme
    values = _real(row.golden_outputs, row)
    steps = None if sibling is None else _steps_between(row, sibling)
    return Parity(
        sqnr_db=_least_db(float_outputs, values, content),
        max_abs_error=_largest_difference(float_outputs, values),
        sibling=None if sibling is None else sibling.label,
        max_lsb=None if steps is None else int(steps.max()),
        differing_share=None if steps is None else float(np.mean(steps > 0)),
        sibling_agreement=None if sibling is None else _agreement(row.decisions, sibling.decisions),
        sibling_max_abs=None if sibling is None else _golden_distance(values, sibling),
        least_sqnr_db=None if row.candidate.artifact is None else least_sqnr_db(scheme, products=content.products),
        least_agreement=None if row.candidate.artifact is None else least_agreement(scheme, products=content.products),
        agreement=_agreement(row.decisions, float_decisions),
    )


def _real(arrays: Batch, row: Measured) -> Batch:
    return tuple(map(dequantize, arrays, row.output_specs))


def _least_db(signals: Batch, approximations: Batch, content: Content) -> float | None:
    """The lowest SQNR of all outputs; None where all are equal."""
    found = [
        sqnr_db(signal, approximation, resolution=resolution)
        for signal, approximation, resolution
        in zip(signals, approximations, content.resolutions_of(len(signals)), strict=True)
    ]
    return min((db for db in found if db is not None), default=None)


def _largest_difference(ones: Batch, others: Batch) -> float:
    return max(float(np.max(np.abs(one - other), initial=0.0)) for one, other in zip(ones, others, strict=True))


def _agreement(one: np.ndarray | None, other: np.ndarray | None) -> float | None:
    """The share of the answers that both give; None where one did not run, or their answers are values."""
    return None if one is None or other is None else float(np.mean(one == other))


def _golden_distance(values: Batch, sibling: Measured) -> float | None:
    """The largest difference of two rows' real outputs on the golden examples."""
    if sibling.golden_outputs is None:
        return None
    return _largest_difference(values, _real(sibling.golden_outputs, sibling))


def measure_agreement(
    first: Measured, second: Measured, labels: np.ndarray | None, *, float_outputs: Batch | None = None,
    float_decisions: np.ndarray | None = None, content: Content = UNKNOWN,
) -> Agreement:
    """Two rows that ran on the same test examples.

    Args:
        labels: of a classifier, the right classes, int64 (n,); None where nothing is known to be right.
        float_outputs: float32 (n_golden, ...) by float Keras, given for two formats of one model: how far these part is
            held against what their rounding explains.
        float_decisions: float Keras's classes for the test examples, given for the same.
        content: what both files hold.
    """
    sqnr, least = (None, None) if float_outputs is None else _between(first, second, float_outputs, content)
    delta: float | None = None
    interval: tuple[float, float] | None = None
    if labels is not None and first.decisions is not None and second.decisions is not None:
        gained, lost = gains_and_losses(first.decisions == labels, second.decisions == labels)
        delta = (gained - lost) / len(labels)
        interval = paired_difference_interval(gained=gained, lost=lost, count=len(labels))
    steps = _steps_between(first, second)
    return Agreement(
        first=first.label,
        second=second.label,
        images=first.examples,
        top1_agreement=_agreement(first.decisions, second.decisions),
        max_lsb=None if steps is None else int(steps.max()),
        differing_share=None if steps is None else float(np.mean(steps > 0)),
        accuracy_delta=delta,
        accuracy_delta_ci95=interval,
        sqnr_db=sqnr,
        least_sqnr_db=least,
        least_agreement=_least_agreement(first, second, float_decisions),
    )


def _least_agreement(first: Measured, second: Measured, float_decisions: np.ndarray | None) -> float | None:
    """Return the share of same answers that the distance of both from float Keras explains; None: not known."""
    shares = [_agreement(row.decisions, float_decisions) for row in (first, second)]
    known = [share for share in shares if share is not None]
    return least_agreement_of_siblings(*known) if len(known) == len(shares) else None


def _between(
    first: Measured, second: Measured, float_outputs: Batch, content: Content
) -> tuple[float | None, float | None]:
    """The SQNR of the one's golden outputs against the other's, and the least that rounding explains; None: equal.

    Of several outputs the one that is furthest below what rounding explains, or nearest to it.
    """
    if first.golden_outputs is None or second.golden_outputs is None:
        return None, None
    sides = (_real(row.golden_outputs, row) for row in (first, second))  # type: ignore[arg-type]
    pairs = [
        _between_outputs(first.candidate.scheme, *arrays, resolution=resolution)
        for *arrays, resolution in zip(
            *sides, float_outputs, content.resolutions_of(len(float_outputs)), strict=True
        )
    ]
    return min(pairs, key=lambda pair: _margin(*pair))


def _margin(sqnr: float | None, least: float | None) -> float:
    return math.inf if sqnr is None else sqnr - (least or 0.0)


def _between_outputs(
    scheme: str, one: np.ndarray, other: np.ndarray, floats: np.ndarray, *, resolution: float
) -> tuple[float | None, float | None]:
    same_numbers = least_sqnr_between_formats_db(scheme)
    if same_numbers is not None:
        return sqnr_db(one, other, resolution=resolution), same_numbers
    from_float = [sqnr_db(floats, values, resolution=resolution) for values in (one, other)]
    known = [math.inf if db is None else db for db in from_float]
    least = least_sqnr_of_siblings_db(*known)
    return sqnr_db(one, other, resolution=resolution), least if math.isfinite(least) else None


def on_grid(outputs: np.ndarray, spec: TensorSpec, grid: TensorSpec) -> np.ndarray:
    """Outputs as integers of `grid`: as they are, or, of an integer file with float outputs, quantized back.

    Exact: each of those floats is scale * (q - zero_point), and `quantize` rounds to the nearest q.
    """
    return outputs if is_integer(spec) else quantize(outputs, grid)


def golden_lsb(answered: Batch, expected: Batch, specs: Sequence[TensorSpec]) -> int | None:
    """The largest difference between two integer outputs of one artifact; None for float outputs."""
    if not all(map(is_integer, specs)):
        return None
    return max(
        int(np.abs(grid_steps(one, spec) - grid_steps(other, spec)).max())
        for one, other, spec in zip(answered, expected, specs, strict=True)
    )


def _steps_between(first: Measured, second: Measured) -> np.ndarray | None:
    """|difference| of all test outputs in LSB, one after the other; None where they are not on one grid."""
    if first.outputs is None or second.outputs is None or first.grid_specs is None or second.grid_specs is None:
        return None
    parts = []
    for one, other, *grids in zip(first.outputs, second.outputs, first.grid_specs, second.grid_specs, strict=True):
        if grids[0].scale is None or np.float32(grids[0].scale) != np.float32(grids[1].scale or 0):
            return None
        parts.append(np.abs(grid_steps(one, grids[0]) - grid_steps(other, grids[1])).reshape(-1))
    return np.concatenate(parts)
