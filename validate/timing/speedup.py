"""How many times as fast as the float model is a row? One ratio per launch, and an exact interval for their center."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeship.core.comparison import CPU_TIME, WALL_TIME
from edgeship.core.measurement import LatencyLaunch
from edgeship.validate.subject.rows import KERAS, Candidate
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


def choose_metric(launches: Sequence[LatencyLaunch], *, threads: int) -> str:
    """What a speed-up compares, by the rule of validate/compare/pilot.py: one thread by its CPU time.

    On an idle machine that equals wall time. Where others come and go wall time mostly tells how often a process was
    put off, and the longer its inferences the oftener.
    """
    return CPU_TIME if threads == 1 and all(launch.rounds_cpu_ms for launch in launches) else WALL_TIME


def wall_per_cpu(launches: Sequence[LatencyLaunch]) -> float | None:
    """Wall time over CPU time of all rounds; None where CPU time is not told."""
    pairs = [
        (math.fsum(samples), cpu_ms * len(samples)) for launch in launches
        for samples, cpu_ms in zip(launch.rounds_ms, launch.rounds_cpu_ms, strict=False)
    ]
    cpu_ms = math.fsum(cpu for _, cpu in pairs)
    return math.fsum(wall for wall, _ in pairs) / cpu_ms if cpu_ms else None


def speedup(
    launches: Sequence[LatencyLaunch], reference: Sequence[LatencyLaunch], *, metric: str = WALL_TIME
) -> tuple[float, tuple[float, float] | None]:
    """Reference time / own time, the Hodges-Lehmann estimate over launches, and its exact 95 % interval.

    The launches of both, in order; at least one. The interval is None with fewer than FEWEST_LAUNCHES.
    """
    logs = [log_ratio(own, other, metric=metric) for own, other in zip(launches, reference, strict=True)]
    estimate = math.exp(hodges_lehmann(logs))
    low, high = lower_bound(logs, level=LEVEL), upper_bound(logs, level=LEVEL)
    if not (math.isfinite(low) and math.isfinite(high)):
        return estimate, None
    return estimate, (math.exp(low), math.exp(high))


def log_ratio(own: LatencyLaunch, reference: LatencyLaunch, *, metric: str = WALL_TIME) -> float:
    """The median over rounds of ln(reference / own): the turns of a round lie within the same second.

    A row that needed fewer rounds is compared in those; a tool's launch is one round.
    """
    pairs = list(zip(_rounds(own, metric), _rounds(reference, metric), strict=False))
    return float(np.median([math.log(theirs / ours) for ours, theirs in pairs]))


def _rounds(launch: LatencyLaunch, metric: str) -> list[float]:
    """The mean of each round, in milliseconds."""
    if metric == CPU_TIME:
        return list(launch.rounds_cpu_ms)
    if not launch.rounds_ms:
        return [launch.mean_ms if launch.median_ms is None else launch.median_ms]
    return [math.fsum(samples) / len(samples) for samples in launch.rounds_ms]


def _format(row: Candidate) -> str | None:
    return None if row.artifact is None else row.artifact.format
