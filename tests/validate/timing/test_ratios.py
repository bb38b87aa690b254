from __future__ import annotations

import math

import pytest

from edgeship.core.comparison import CPU_TIME, WALL_TIME
from edgeship.validate.timing.ratios import change_percent, choose_metric, log_ratio, wall_per_cpu


def test_a_positive_log_ratio_is_slower() -> None:
    assert log_ratio([2.0], [1.0]) == pytest.approx(math.log(2))
    assert log_ratio([1.0], [2.0]) == pytest.approx(-math.log(2))


def test_a_launch_is_the_median_of_its_rounds_ratios() -> None:
    assert log_ratio([1.1, 2.2, 50], [1, 2, 1]) == pytest.approx(math.log(1.1))
    assert log_ratio([1.0], [3.0, 6.0, 100.0]) == pytest.approx(-math.log(3))  # stopped after one round


def test_one_thread_is_compared_by_its_cpu_time() -> None:
    assert choose_metric(threads=1, cpu_time_measured=True) == CPU_TIME
    assert choose_metric(threads=2, cpu_time_measured=True) == WALL_TIME
    assert choose_metric(threads=1, cpu_time_measured=False) == WALL_TIME


def test_wall_time_over_cpu_time() -> None:
    assert wall_per_cpu([1.0, 2.0], [0.5, 1.0]) == pytest.approx(2)
    assert wall_per_cpu([1.0], []) is None


def test_a_change_in_percent() -> None:
    assert change_percent(math.log(1.031)) == "+3.1 %"
    assert change_percent(math.inf) == "no bound"
