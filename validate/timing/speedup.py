"""How many times as fast as the float model is a row? One ratio per launch, and an exact interval for their center."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeship.core.comparison import CPU_TIME, WALL_TIME
from edgeship.core.measurement import LatencyLaunch
from edgeship.validate.subject.rows import KERAS, Candidate
from edgeship.validate.timing.ratios import log_ratio
from edgeship.validate.timing.signed_rank import hodges_lehmann, lower_bound, upper_bound

# Of a two-sided interval of 95 %. With 6 launches the bounds are the least and the greatest ratio, which the true one
# is outside of in 2 of 2^6 = 3.1 %; with 5 it would be 6.3 %.
LEVEL = 0.025
FEWEST_LAUNCHES = 6


def reference_of(row: Candidate, rows: Sequence[Candidate]) -> Candidate | None:
    """What a row is compared with: float Keras, or where a target has none, the float file of its format and runtime.

    None: the row is it itself, or there is none.
    """
    keras = next((other for other in rows if other.runtime == KERAS), None)
    if keras is not None:
        return None if row is keras else keras
    floats = (
        other for other in rows
        if other.scheme == "float32" and other.runtime == row.runtime and _format(other) == _format(row)
    )
    reference = next(floats, None)
    return None if reference is row else reference


def speedup(
    launches: Sequence[LatencyLaunch], reference: Sequence[LatencyLaunch], *, metric: str = WALL_TIME
) -> tuple[float, tuple[float, float] | None]:
    """Return reference time / own time: the Hodges-Lehmann estimate over launches, and its exact 95 % interval.

    The launches of both, in order; at least one. The interval is None with fewer than FEWEST_LAUNCHES.
    """
    logs = [
        log_ratio(round_means(own, metric), round_means(other, metric))
        for own, other in zip(launches, reference, strict=True)
    ]
    # A log ratio is positive for "slower", so its lower bound is the speed-up's upper one.
    estimate = math.exp(-hodges_lehmann(logs))
    low, high = lower_bound(logs, level=LEVEL), upper_bound(logs, level=LEVEL)
    if not (math.isfinite(low) and math.isfinite(high)):
        return estimate, None
    return estimate, (math.exp(-high), math.exp(-low))


def round_means(launch: LatencyLaunch, metric: str) -> list[float]:
    """Return the mean of each round in milliseconds; a launch of a tool is one round."""
    if metric == CPU_TIME:
        return list(launch.rounds_cpu_ms)
    if not launch.rounds_ms:
        return [launch.mean_ms if launch.median_ms is None else launch.median_ms]
    return [math.fsum(samples) / len(samples) for samples in launch.rounds_ms]


def _format(row: Candidate) -> str | None:
    return None if row.artifact is None else row.artifact.format
