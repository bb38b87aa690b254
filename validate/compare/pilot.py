"""Two launches that do not count: they fix what is measured, and how, before the first look.

Choosing the metric anew at each look would be a second chance for a false alarm, so it is chosen once. One thread is
measured by its CPU time: on an idle machine that equals its wall time, and where others come and go only wall time
suffers (launches of one pair then differed by 20 % in wall time and by 1.3 % in CPU time). What CPU time does not see,
waiting, is looked at before a pass is given (see timing.py). Several threads wait for each other by design, so there it
is wall time.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeship.core.comparison import CPU_TIME, WALL_TIME
from edgeship.validate.timing.launches import Bench, Contender, launch, rounds_of
from edgeship.validate.timing.ratios import choose_metric, wall_per_cpu

FIRST_ROUNDS = 3
SECOND_ROUNDS = 10
ROUND_MS = 5.0  # shorter rounds are mostly the change from one process to the other
MOST_INFERENCES = 200
TOOL_INFERENCES = 10  # of a tool's launch, which cannot take turns
# Rounds against launches: the best number is sqrt(cost of a launch / cost of a round) times the ratio of the standard
# deviations within and between launches (Kalibera and Jones 2013), which is 2.7 for CPU time on a shared machine.
ROUNDS_FACTOR = 2.7
FEWEST_ROUNDS, MOST_ROUNDS = 10, 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every launch of the check does."""

    metric: str
    rounds: int
    inferences: int  # per round
    launch_seconds: float  # about
    wall_per_cpu: float | None


def make_plan(contenders: Mapping[str, Contender], bench: Bench, *, order: random.Random) -> Plan:
    """Run the pilot. Raises ArmFailed."""
    if not bench.takes_turns:
        started_s = time.monotonic()
        launch(contenders, bench, rounds=1, inferences=TOOL_INFERENCES, order=order)
        return Plan(
            metric=WALL_TIME, rounds=1, inferences=TOOL_INFERENCES, launch_seconds=time.monotonic() - started_s,
            wall_per_cpu=None,
        )
    started_s = time.monotonic()
    first = launch(contenders, bench, rounds=FIRST_ROUNDS, inferences=1, order=order).sides.values()
    seconds = time.monotonic() - started_s
    inference_ms = float(np.median([duration for side in first for duration in side.wall_ns])) / 1e6
    inferences = min(math.ceil(ROUND_MS / inference_ms), MOST_INFERENCES)
    round_seconds = len(contenders) * inferences * inference_ms / 1e3
    # What a launch costs besides its rounds; the first call of a model also packs its weights.
    cost_seconds = max(seconds - FIRST_ROUNDS * len(contenders) * inference_ms / 1e3, 0.0)
    rounds = rounds_for(cost_seconds, round_seconds)
    second = launch(contenders, bench, rounds=SECOND_ROUNDS, inferences=inferences, order=order).sides.values()
    return Plan(
        metric=choose_metric(threads=bench.threads, cpu_time_measured=all(side.cpu_ns for side in second)),
        rounds=rounds, inferences=inferences,
        launch_seconds=cost_seconds + rounds * round_seconds,
        wall_per_cpu=wall_per_cpu(rounds_of(second, WALL_TIME), rounds_of(second, CPU_TIME)),
    )


def rounds_for(launch_cost_seconds: float, round_seconds: float) -> int:
    """Rounds per launch that make the most of the time."""
    best = round(ROUNDS_FACTOR * math.sqrt(launch_cost_seconds / round_seconds))
    return min(max(best, FEWEST_ROUNDS), MOST_ROUNDS)
