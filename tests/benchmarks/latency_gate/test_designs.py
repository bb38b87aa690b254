"""The proof's arithmetic on recordings whose answer is known: bounds, replayed checks, what drift does to a design."""

import random

import pytest
from scipy.stats import binom

from benchmarks.latency_gate.designs import DESIGNS, clopper_pearson, decide, replay, stored_threshold

ROUNDS = 20


def record(started_at=0.0, *, seed=0, slow=1.0, **ratios):
    """A launch whose arms take `ratios` times as long as "base", within 0.1 % from round to round."""
    noise = random.Random(seed)
    sides = {
        name: [slow * ratio * 1e6 * (1 + noise.uniform(-1e-3, 1e-3)) for _ in range(ROUNDS)]
        for name, ratio in {"base": 1.0, **ratios}.items()
    }
    return {
        "started_at": started_at,
        "sides": {name: {"cpu_ns": times, "wall_ns": times} for name, times in sides.items()},
    }


@pytest.mark.parametrize(("count", "total"), [(0, 60), (1, 60), (30, 60), (59, 60), (60, 60)])
def test_the_bounds_are_where_the_count_would_be_as_rare_as_the_level_says(count, total):
    low, high = clopper_pearson(count, total)

    assert low <= count / total <= high
    assert low == 0 if count == 0 else binom.sf(count - 1, total, low) == pytest.approx(0.05)
    assert high == 1 if count == total else binom.cdf(count, total, high) == pytest.approx(0.05)


def test_a_decision_takes_no_more_launches_than_it_needs():
    assert decide([0.06 + number * 1e-4 for number in range(60)]) == (True, 10)
    assert decide([number * 1e-4 for number in range(60)]) == (False, 10)
    wide = random.Random(0)
    assert decide([wide.gauss(0.035, 0.15) for _ in range(60)]) == (None, 60)


def test_a_replay_uses_each_launch_once_and_leaves_an_unfinished_check_out():
    slower = [record(seed=number, arm=1.06) for number in range(10)]
    same = [record(seed=number, arm=1.0) for number in range(10)]
    left = [record(seed=number, arm=0.5 + 0.1 * number) for number in range(12)]  # undecided at the first look

    assert replay([*slower, *same, *left], "arm") == [(True, 10), (False, 10)]


def test_a_slower_minute_alarms_only_the_design_with_a_stored_median():
    """Half of the launches in a minute in which everything takes 10 % longer, the arms alike."""
    records = [record(number, seed=number, base2=1.0) for number in range(10)]
    records += [record(1000 + number, seed=number, slow=1.1, base2=1.0) for number in range(10)]
    draw = random.Random(0)
    alarms = {
        name: sum(design(records, "base2", "cpu_ns", draw)[0] is True for _ in range(100))
        for name, design in DESIGNS.items()
    }

    # Of two launches from different minutes, the later drawn one is as often in the slow minute as not.
    assert 30 <= alarms["stored median, 5 %"] <= 70
    assert alarms["edgeship"] == 0


def test_a_stored_median_is_of_another_minute():
    """Only the two launches within one second of each other are more than 5 % apart."""
    records = [record(0, base2=1.0), record(1, slow=1.08, base2=1.0), record(1000, slow=1.04, base2=1.0)]

    alarms = [stored_threshold(records, "base2", "cpu_ns", random.Random(seed))[0] for seed in range(50)]

    assert not any(alarms)
