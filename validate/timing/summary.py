"""The figures of a check's timed part, from its launches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeship.core.comparison import ArmTiming, Launch, Side
from edgeship.validate.timing.launches import round_times
from edgeship.validate.timing.sequential import Design
from edgeship.validate.timing.signed_rank import student_t_quantile

BASELINE, CANDIDATE = "baseline", "candidate"
P99_SAMPLES = 1000  # below this the 99th percentile rests on fewer than ten samples
CONFIDENT = 0.90  # of the smallest detectable slowdown
SD_PER_MAD = 1.4826  # of normal values; rounds that others disturbed are far out and move neither median
MEDIAN_SE = math.sqrt(math.pi / 2)  # of a median, in standard errors of the mean, for near-normal values


def smallest_detectable(launch_sd: float | None, count: int, design: Design) -> float | None:
    """The true slowdown that 90 % of checks of this many launches would call a regression, as a share."""
    if launch_sd is None or count < 2:
        return None
    quantiles = (student_t_quantile(probability, count - 1) for probability in (1 - design.alpha, CONFIDENT))
    return math.expm1(math.log1p(design.tolerance) + sum(quantiles) * launch_sd / math.sqrt(count))


def arm_timing(sides: Sequence[Side], inferences: int) -> ArmTiming | None:
    """One arm's figures over launches; None without any."""
    if not sides:
        return None
    wall_ms = np.asarray([value for side in sides for value in side.wall_ns]) / 1e6
    cpu_ms = np.asarray([value for side in sides for value in side.cpu_ns]) / 1e6
    one_by_one = inferences == 1 and len(wall_ms) >= P99_SAMPLES
    return ArmTiming(
        median_ms=float(np.median(wall_ms)), p90_ms=float(np.percentile(wall_ms, 90)),
        p99_ms=float(np.percentile(wall_ms, 99)) if one_by_one else None,
        mean_ms=float(wall_ms.mean()), min_ms=float(wall_ms.min()),
        median_cpu_ms=float(np.median(cpu_ms)) if len(cpu_ms) else None,
        load_ms=median_known([side.load_ms for side in sides]),
        first_ms=median_known([side.first_ms for side in sides]),
        peak_memory_bytes=None,
    )


def within_launch_sd(launches: Sequence[Launch], metric: str) -> float | None:
    """What the rounds within launches explain of `launch_sd`: the standard error of their medians."""
    errors = []
    for sample in launches:
        pairs = zip(round_times(sample.baseline, metric), round_times(sample.candidate, metric), strict=True)
        ratios = [math.log(candidate / baseline) for baseline, candidate in pairs]
        if len(ratios) > 1:
            spread = SD_PER_MAD * float(np.median(np.abs(np.asarray(ratios) - np.median(ratios))))
            errors.append(MEDIAN_SE * spread / math.sqrt(len(ratios)))
    return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None


def median_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def finite_exp(value: float) -> float | None:
    return math.exp(value) if math.isfinite(value) else None
