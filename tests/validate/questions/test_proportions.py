from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from edgeship.validate.questions.proportions import (
    Z95,
    images_needed,
    mcnemar_p,
    paired_difference_interval,
    wilson_interval,
)


def test_z_is_the_quantile() -> None:
    assert norm.ppf(0.975) == pytest.approx(Z95, abs=1e-12)


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (1, 1), (488, 500), (250, 500), (9720, 10_000)])
def test_wilson_equals_scipy(successes: int, count: int) -> None:
    expected = binomtest(successes, count).proportion_ci(method="wilson")
    assert wilson_interval(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 11), (40, 90), (900, 1100)])
def test_mcnemar_equals_the_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_p(gained=gained, lost=lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(gained=lost, lost=gained) == pytest.approx(expected, rel=1e-9)


def test_paired_interval_by_hand() -> None:
    # Cells 80, 4, 10, 6 become 80.5, 4.5, 10.5, 6.5 of 102: difference -6/102 = -0.058824,
    # variance (15/102 - 0.058824^2) / 102 = 0.0014078, half width 1.95996 * 0.0375207 = 0.0735392.
    assert paired_difference_interval(gained=4, lost=10, count=100) == pytest.approx(
        (-0.1323627, 0.0147157), abs=1e-6
    )


def test_paired_interval_is_antisymmetric_and_never_a_point() -> None:
    lower, upper = paired_difference_interval(gained=3, lost=12, count=500)
    assert paired_difference_interval(gained=12, lost=3, count=500) == pytest.approx((-upper, -lower))
    lower, upper = paired_difference_interval(gained=0, lost=0, count=500)
    assert lower < 0 < upper
    assert paired_difference_interval(gained=0, lost=1, count=1)[0] == -1.0


@pytest.mark.parametrize(("gain", "loss", "count"), [(0.01, 0.02, 500), (0.005, 0.005, 200), (0.1, 0.15, 100)])
def test_paired_interval_covers_the_truth(gain: float, loss: float, count: int) -> None:
    draws = np.random.default_rng(0).multinomial(count, [gain, loss, 1 - gain - loss], size=4000)
    intervals = [paired_difference_interval(gained=int(g), lost=int(x), count=count) for g, x, _ in draws]
    covered = np.mean([lower <= gain - loss <= upper for lower, upper in intervals])
    # Nominal 95 %; 4000 draws have a standard error of 0.35 points, and small counts make it conservative.
    assert 0.94 <= covered <= 1.0


def test_images_needed() -> None:
    # Twice as close to the limit as wide: four times the images.
    needed = images_needed(interval=(-0.03, 0.01), difference=-0.01, limit=-0.02, count=500)
    assert needed == 2000
    assert images_needed(interval=(-0.03, -0.01), difference=-0.02, limit=-0.02, count=500) is None
    assert math.isfinite(needed)
