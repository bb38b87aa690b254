"""The vocabulary of times: which time counts, the ratio of two rows and its sign, and who else had the processor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeship.core.comparison import CPU_TIME, WALL_TIME


def choose_metric(*, threads: int, cpu_time_measured: bool) -> str:
    """Return the metric of a comparison: the CPU time of one thread, otherwise wall time.

    On an idle machine the CPU time of one thread equals its wall time. Where other processes come and go, wall time
    mostly says how often the measured process was put off its core, and the longer an inference the oftener. Several
    threads wait for each other by design.
    """
    return CPU_TIME if threads == 1 and cpu_time_measured else WALL_TIME


def log_ratio(own: Sequence[float], reference: Sequence[float]) -> float:
    """Return the median over rounds of ln(own / reference): positive is slower than the reference.

    The two times of a round lie within the same second. A row that needed fewer rounds is compared in those.
    """
    return float(np.median([math.log(ours / theirs) for ours, theirs in zip(own, reference, strict=False)]))


def wall_per_cpu(wall: Sequence[float], cpu: Sequence[float]) -> float | None:
    """Return the wall time of all rounds over their CPU time, both in one unit; None without CPU times."""
    used = math.fsum(cpu)
    return math.fsum(wall) / used if used else None


def change_percent(log_ratio: float) -> str:
    """Write a log ratio as a change in percent: "+3.1 %", or "no bound"."""
    return f"{math.expm1(log_ratio) * 100:+.1f} %" if math.isfinite(log_ratio) else "no bound"
