"""Is it still as good? A metric on the test examples, paired with float Keras on the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeship.core.errors import DataError, in_one_line
from edgeship.core.measurement import Score
from edgeship.core.metrics import METRICS, Metric, Outputs, without_last_one

# Percentile intervals of 95 % settle to a few per cent of their width with a thousand draws or two (Efron and
# Tibshirani, An Introduction to the Bootstrap, 1993, section 13).
DRAWS, SEED = 2000, 0
TAILS = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring:
    """What answers are held against: a metric and targets, either of which may be missing.

    Without targets, or without a metric, nothing is scored. Answers that two models can share (classes) are compared
    all the same, where the metric knows of any.
    """

    metric: Metric | None = None
    targets: np.ndarray | None = None

    @property
    def scores(self) -> bool:
        """Whether answers are scored."""
        return self.metric is not None and self.targets is not None

    @property
    def reads_inputs(self) -> bool:
        """Whether scoring looks at what the model was given."""
        return self.scores and self.metric is not None and self.metric.reads_inputs

    def rows(self, outputs: Outputs, inputs: Outputs, *, start: int) -> np.ndarray | None:
        """Return the metric's rows of the examples from `start` on; None where nothing is scored.

        Raises:
            DataError: outputs or targets that the metric cannot read, or a row that is not finite.
        """
        rows = self.raw_rows(outputs, inputs, start=start)
        if rows is not None and not np.isfinite(rows).all():
            assert self.metric is not None
            raise DataError(
                f"metric {self.metric.name}: expected finite numbers, found NaN or infinity for "
                f"{np.count_nonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))} of {len(rows)} examples; "
                "correct the metric, or the targets"
            )
        return rows

    def raw_rows(self, outputs: Outputs, inputs: Outputs, *, start: int) -> np.ndarray | None:
        """Return the same rows, finite or not."""
        if self.metric is None or self.targets is None:
            return None
        targets = self.targets[start : start + len(outputs[0])]
        try:
            return self.metric.rows(outputs, targets, inputs)
        except ValueError as error:
            raise DataError(
                f"metric {self.metric.name}: {error}; name another metric, or correct the targets"
            ) from error
        # A function of the user's may raise anything.
        except Exception as error:
            raise DataError(
                f"metric {self.metric.name} failed: {in_one_line(error)}; correct the function, or the targets"
            ) from error

    def decisions(self, outputs: Outputs) -> np.ndarray | None:
        """Return the answers that two models can share; None where they are values."""
        if self.metric is None or self.metric.decide is None:
            return None
        try:
            return self.metric.decide(outputs)
        except ValueError as error:
            raise DataError(f"metric {self.metric.name}: {error}") from error


def scoring_of(metric: Metric | None, targets: np.ndarray | None, *, rank: int) -> Scoring:
    """Return the scoring of outputs of a rank; class numbers may stand in a last axis of one."""
    return Scoring(metric=metric, targets=without_last_one(metric, targets, rank=rank))


def scoring_of_classes(labels: np.ndarray | None) -> Scoring:
    """Return the scoring of a classifier: int64 (n,) are the right classes."""
    return Scoring(metric=METRICS["top1"], targets=labels)


def measure_score(metric: Metric, rows: np.ndarray, *, float_rows: np.ndarray | None) -> Score:
    """Score one model, and compare it with float Keras where that was scored on the same examples.

    Raises:
        DataError: the metric gives no number on these examples (an AUC of one class alone).
    """
    value = metric.combine(rows)
    if not math.isfinite(value):
        raise DataError(
            f"metric {metric.name}: no number can be had from these {len(rows)} targets; are all of them of one kind?"
        )
    float_value = None if float_rows is None else metric.combine(float_rows)
    drawn = _drawn(metric, [rows] if float_rows is None else [rows, float_rows])
    return Score(
        metric=metric.name, examples=len(rows), value=value, value_ci95=_interval(drawn[:, 0]),
        float_value=float_value, delta=None if float_value is None else value - float_value,
        delta_ci95=None if float_value is None else _interval(drawn[:, 0] - drawn[:, 1]),
        higher_is_better=metric.higher_is_better, is_share=metric.is_share,
    )


def _drawn(metric: Metric, sides: list[np.ndarray]) -> np.ndarray:
    """Return (DRAWS, sides): the figure of each side on examples drawn with replacement, the same ones for all."""
    generator, count = np.random.default_rng(SEED), len(sides[0])
    figures = np.empty((DRAWS, len(sides)))
    for draw in range(DRAWS):
        chosen = generator.integers(0, count, count)
        figures[draw] = [metric.combine(side[chosen]) for side in sides]
    return figures


def _interval(figures: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval; draws without a figure (one class alone) say nothing."""
    finite = figures[np.isfinite(figures)]
    low, high = np.percentile(finite, TAILS)
    return float(low), float(high)
