"""Proportions with their uncertainty: one model's top-1, and two models on the same images.

All functions take counts and return shares (0..1). Intervals are 95 %.
"""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, JASA 22, 1927); sound near 0 and 1 and for small counts."""
    share, spread = successes / count, Z95 * Z95 / count
    centre = (share + spread / 2) / (1 + spread)
    half_width = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def paired_difference_interval(*, gained: int, lost: int, count: int) -> tuple[float, float]:
    """The interval of (gained - lost) / count, two models having been asked about the same `count` images.

    `gained` images are right only by the second model, `lost` only by the first. A Wald interval after 0.5
    is added to each of the four cells (Agresti and Min, Statistics in Medicine 24, 2005): never of width 0,
    and close to its nominal coverage for small counts.
    """
    adjusted_count = count + 2
    gained_share, lost_share = (gained + 0.5) / adjusted_count, (lost + 0.5) / adjusted_count
    difference = gained_share - lost_share
    variance = (gained_share + lost_share - difference * difference) / adjusted_count
    half_width = Z95 * math.sqrt(variance)
    return max(-1.0, difference - half_width), min(1.0, difference + half_width)


def mcnemar_p(*, gained: int, lost: int) -> float:
    """The two-sided exact McNemar test: is a disagreement as likely a gain as a loss?

    Twice the smaller tail of a binomial distribution with probability 1/2 (McNemar, Psychometrika 12,
    1947); 1.0 without any disagreement. Logarithms, since 2^n overflows beyond 1023 disagreements.
    """
    disagreements = gained + lost
    log_terms = [
        math.lgamma(disagreements + 1) - math.lgamma(k + 1) - math.lgamma(disagreements - k + 1)
        - disagreements * math.log(2)
        for k in range(min(gained, lost) + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in log_terms))


def images_needed(
    *, interval: tuple[float, float], difference: float, limit: float, count: int
) -> int | None:
    """About how many images would shrink `interval` until it lies on one side of `limit`.

    The width of an interval falls with the square root of the count. None where `difference` is the limit
    itself: no number of images decides that.
    """
    distance = abs(difference - limit)
    if distance == 0:
        return None
    half_width = (interval[1] - interval[0]) / 2
    return math.ceil(count * (half_width / distance) ** 2)
