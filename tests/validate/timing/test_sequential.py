"""The sequential decision: levels held by simulation with fixed seeds, and the three answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeship.validate.timing.sequential import ADJACENT_LOOKS, LOOKS, Design, launches_needed, look_at, spending

DESIGN = Design(tolerance=0.02, limit=0.05)


@pytest.mark.parametrize("looks", [LOOKS, ADJACENT_LOOKS, (10,)])
def test_looks_spend_the_level_and_no_more(looks: tuple[int, ...]) -> None:
    parts = spending(looks, 0.01)
    assert len(parts) == len(looks)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(0.01)


def test_the_first_look_can_decide() -> None:
    """Ten launches give bounds at the first look's part of the level."""
    look = look_at([math.log(1.2)] * 10, 0, DESIGN)
    assert math.isfinite(look.lower)
    assert look.verdict == "regression"


@pytest.mark.parametrize(("ratio", "verdict"), [(1.2, "regression"), (1.0, "pass"), (0.8, "improved"), (1.035, None)])
def test_answers(ratio: float, verdict: str | None) -> None:
    values = math.log(ratio) + np.linspace(-0.03, 0.03, 10)
    assert look_at(list(values), 0, DESIGN).verdict == verdict


def run(generator: np.random.Generator, true_ratio: float, sd: float) -> str:
    values = math.log(true_ratio) + sd * generator.standard_t(4, size=LOOKS[-1])
    for number, count in enumerate(LOOKS):
        verdict = look_at(list(values[:count]), number, DESIGN).verdict
        if verdict is not None:
            return verdict
    return "inconclusive"


@pytest.mark.parametrize(("true_ratio", "wrong", "level"), [
    (1.02, "regression", 0.01),  # at the tolerance exactly, the worst case
    (1.05, "pass", 0.05),  # at the limit exactly
])
def test_levels_hold_at_the_edges_over_all_looks(true_ratio: float, wrong: str, level: float) -> None:
    """2000 checks of each; the asked level and 3 binomial standard errors."""
    generator = np.random.default_rng(3)
    share = np.mean([run(generator, true_ratio, 0.03) == wrong for _ in range(2000)])
    assert share <= level + 3 * math.sqrt(level * (1 - level) / 2000)


def test_power_at_the_noise_of_real_launches() -> None:
    """Launches differ by 1.5 to 4 %: no false alarm without a change, and 5 % is found."""
    generator = np.random.default_rng(4)
    answers = {ratio: [run(generator, ratio, 0.03) for _ in range(300)] for ratio in (1.0, 1.05)}
    assert answers[1.0].count("regression") == 0
    assert answers[1.05].count("regression") > 0.95 * 300


def test_launches_needed() -> None:
    values = list(math.log(1.06) + np.linspace(-0.08, 0.08, 10))
    look = look_at(values, 0, DESIGN)
    assert look.verdict is None
    needed = launches_needed(look, 10, DESIGN)
    assert needed is not None and needed > 10
    few = look_at(values[:3], 0, DESIGN)
    assert launches_needed(few, 3, DESIGN) is None  # no bounds yet
