"""Scores: paired intervals by drawing examples anew, and what has no score."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.core.errors import DataError
from edgeship.core.metrics import METRICS, metric_of_function
from edgeship.validate.questions.scores import Scoring, measure_score

RANDOM = np.random.default_rng(5)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    rows = RANDOM.normal(size=400)
    score = measure_score(METRICS["mean_absolute_error"], rows, float_rows=None)
    half = 1.96 * rows.std() / 20
    # Percentiles of 2,000 draws are known to about 5 % of the interval's width.
    np.testing.assert_allclose(score.value_ci95, (rows.mean() - half, rows.mean() + half), atol=0.15 * half)


def test_the_comparison_is_paired() -> None:
    floats = RANDOM.normal(size=300) * 10
    score = measure_score(METRICS["mean_squared_error"], floats + 0.5, float_rows=floats)
    assert score.delta == pytest.approx(0.5)
    assert score.delta_ci95 == (pytest.approx(0.5), pytest.approx(0.5))  # although either varies by 10
    assert not score.higher_is_better


def test_a_figure_of_all_examples_is_drawn_anew_as_a_whole() -> None:
    marks = RANDOM.integers(0, 2, 200)
    rows = np.stack([marks + RANDOM.normal(size=200), marks], axis=1)
    score = measure_score(METRICS["auc"], rows, float_rows=rows)
    assert score.delta == 0
    assert score.value_ci95[0] < score.value < score.value_ci95[1]


def test_an_auc_of_one_kind_alone_is_no_number() -> None:
    rows = np.stack([RANDOM.normal(size=20), np.zeros(20)], axis=1)
    with pytest.raises(DataError, match="metric auc: no number can be had from these 20 targets"):
        measure_score(METRICS["auc"], rows, float_rows=None)


def test_a_metric_that_returns_nan() -> None:
    odd = metric_of_function("odd", lambda outputs, targets: outputs[:, 0] / targets)
    scoring = Scoring(metric=odd, targets=np.zeros(3))
    with np.errstate(divide="ignore"), pytest.raises(DataError, match=r"metric odd: .* infinity for 3 of 3 examples"):
        scoring.rows([np.ones((3, 1))], [], start=0)


def test_targets_that_the_metric_cannot_read() -> None:
    scoring = Scoring(metric=METRICS["top1"], targets=np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"metric top1: expected class numbers .*; name another metric, or correct"):
        scoring.rows([np.ones((3, 3))], [], start=0)


def test_what_a_users_function_raises_is_one_sentence() -> None:
    scoring = Scoring(metric=metric_of_function("mine", lambda outputs, targets: {}["key"]), targets=np.zeros(3))
    with pytest.raises(DataError, match="metric mine failed: KeyError: 'key'; correct the function, or the targets"):
        scoring.rows([np.ones((3, 1))], [], start=0)


def test_without_targets_nothing_is_scored_and_classes_are_still_known() -> None:
    scoring = Scoring(metric=METRICS["top1"])
    assert scoring.rows([np.ones((3, 3))], [], start=0) is None
    np.testing.assert_array_equal(scoring.decisions([np.eye(3)]), [0, 1, 2])
