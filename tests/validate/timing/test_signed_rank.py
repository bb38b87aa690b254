"""Exact signed-rank bounds, held against scipy and against simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from scipy.stats import t as student_t

from edgeship.validate.timing.signed_rank import (
    critical_rank,
    hodges_lehmann,
    lower_bound,
    null_counts,
    student_t_quantile,
    upper_bound,
    walsh_averages,
)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_null_distribution_is_the_enumeration_of_all_signs(count: int) -> None:
    sums = [sum(rank for rank, sign in enumerate(signs, start=1) if sign) for signs in product((0, 1), repeat=count)]
    assert null_counts(count) == tuple(np.bincount(sums))


@pytest.mark.parametrize("count", [10, 15, 20, 30])
@pytest.mark.parametrize("seed", range(5))
def test_a_bound_is_where_scipys_exact_p_value_crosses_the_level(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, size=count) / 100
    level = 0.0123
    bound = lower_bound(values, level=level)

    def p_value(center: float) -> float:
        return float(scipy.stats.wilcoxon(values - center, alternative="greater", method="exact").pvalue)

    assert p_value(bound - 1e-9) <= level < p_value(bound + 1e-9)


def test_hodges_lehmann_is_the_median_of_pairwise_means() -> None:
    values = [1.0, 2.0, 10.0]
    assert walsh_averages(values).tolist() == [1.0, 1.5, 2.0, 5.5, 6.0, 10.0]
    assert hodges_lehmann(values) == 3.75
    assert hodges_lehmann([7.0]) == 7.0


def test_bounds_mirror_each_other_and_enclose_the_estimate() -> None:
    values = np.random.default_rng(1).normal(size=12)
    assert upper_bound(values, level=0.05) == -lower_bound(-values, level=0.05)
    assert lower_bound(values, level=0.05) < hodges_lehmann(values) < upper_bound(values, level=0.05)


def test_too_few_values_bound_nothing() -> None:
    assert critical_rank(6, 0.01) is None  # 1 / 64 is the least that six signs can give
    assert critical_rank(7, 0.01) == 0
    assert lower_bound([0.1] * 6, level=0.01) == -math.inf
    assert upper_bound([0.1] * 6, level=0.01) == math.inf


@pytest.mark.parametrize("distribution", ["normal", "laplace", "standard_cauchy", "uniform"])
def test_coverage_holds_whatever_the_symmetric_distribution(distribution: str) -> None:
    """4000 samples of 12 about 0 at a level of 5 %: the binomial standard error is 0.34 points, so 4 of them."""
    generator = np.random.default_rng(7)
    samples = getattr(generator, distribution)(size=(4000, 12)) - (0.5 if distribution == "uniform" else 0.0)
    missed = np.mean([lower_bound(sample, level=0.05) > 0 for sample in samples])
    exact = sum(null_counts(12)[: (critical_rank(12, 0.05) or 0) + 1]) / 2**12  # just under 5 %
    assert missed == pytest.approx(exact, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


@pytest.mark.parametrize("degrees", [5, 9, 14, 59])
@pytest.mark.parametrize("probability", [0.9, 0.95, 0.99])
def test_student_t_quantile(probability: float, degrees: int) -> None:
    assert student_t_quantile(probability, degrees) == pytest.approx(student_t.ppf(probability, degrees), rel=0.01)
