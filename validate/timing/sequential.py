"""When to stop and what to say: a sequential test with three answers, over the log ratios of launches.

Looking after every launch at a level of 1 % would raise a false alarm in 3.5 % of comparisons, so each planned look
spends its own part of the level. The parts follow the spending function that resembles Pocock's (Lan and DeMets 1983)
and are simply added up (a union bound): valid whatever the dependence between looks is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.core.comparison import IMPROVED, PASS, REGRESSION
from edgeship.validate.timing.signed_rank import hodges_lehmann, lower_bound, upper_bound

ALPHA, BETA = 0.01, 0.05  # false "regression" at the tolerance, false "pass" at the limit
LOOKS = (10, 15, 20, 30, 45, 60)  # at 10 launches the bounds first exist for the first look's share of 1 %
# Of tools that load the model anew for each observation, so that both arms cannot take turns within a launch.
ADJACENT_LOOKS = (12, 16, 20, 24)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a check is decided. `tolerance` and `limit` are shares: 0.02 is 2 %.

    A slowdown of `tolerance` or less is called a regression with probability `alpha` at most; one of `limit` or
    more passes with probability `beta` at most; between them either answer is right.
    """

    tolerance: float
    limit: float
    looks: tuple[int, ...] = LOOKS
    alpha: float = ALPHA
    beta: float = BETA


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the launches so far say. Logarithms of candidate / baseline; bounds may be infinite."""

    estimate: float
    lower: float
    upper: float
    verdict: str | None  # None: go on


def spending(looks: Sequence[int], level: float) -> tuple[float, ...]:
    """What each look may spend of `level`; the sum is `level`."""
    spent = [level * math.log(1 + (math.e - 1) * count / looks[-1]) for count in looks]
    return tuple(now - before for before, now in zip([0.0, *spent], spent, strict=False))


def look_at(log_ratios: Sequence[float], number: int, design: Design) -> Look:
    """The `number`-th look (from 0). `log_ratios` are those of all launches so far, however many they are."""
    alpha = spending(design.looks, design.alpha)[number]
    beta = spending(design.looks, design.beta)[number]
    lower, upper = lower_bound(log_ratios, level=alpha), upper_bound(log_ratios, level=beta)
    verdict = None
    if lower > math.log1p(design.tolerance):
        verdict = REGRESSION
    elif upper < math.log1p(design.limit):
        # That it is faster is a claim as strong as that it is slower.
        verdict = IMPROVED if upper_bound(log_ratios, level=alpha) < 0 else PASS
    return Look(estimate=hodges_lehmann(log_ratios), lower=lower, upper=upper, verdict=verdict)


def launches_needed(look: Look, count: int, design: Design) -> int | None:
    """About how many launches would decide: the interval shrinks with their square root. None: no number would."""
    candidates = []
    if math.isfinite(look.lower) and look.estimate > (bound := math.log1p(design.tolerance)):
        candidates.append(((look.estimate - look.lower) / (look.estimate - bound)) ** 2)
    if math.isfinite(look.upper) and look.estimate < (bound := math.log1p(design.limit)):
        candidates.append(((look.upper - look.estimate) / (bound - look.estimate)) ** 2)
    return math.ceil(count * min(candidates)) if candidates else None
