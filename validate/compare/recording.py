"""One artifact alone, timed in fresh processes: what a baseline keeps, and what a candidate is first held against."""

from __future__ import annotations

import random

from edgeship.core.progress import track
from edgeship.validate.compare.baseline import Protocol, StoredLaunch
from edgeship.validate.compare.pilot import make_plan
from edgeship.validate.timing.launches import WARMUP_RUNS, Bench, Contender, launch

ARM = "baseline"
LAUNCHES = 10  # per session: the mean of them is then a third as far off as one


def choose_protocol(contender: Contender, bench: Bench, *, seed: int) -> Protocol:
    """The pilot of a comparison, with one arm. Raises ArmFailed."""
    plan = make_plan({ARM: contender}, bench, order=random.Random(seed))
    return Protocol(
        metric=plan.metric, threads=bench.threads, cpus=bench.cpus, rounds=plan.rounds,
        inferences_per_round=plan.inferences, warmup_runs=WARMUP_RUNS,
    )


def record(
    contender: Contender, bench: Bench, protocol: Protocol, *, seed: int, launches: int = LAUNCHES
) -> tuple[StoredLaunch, ...]:
    """Launch after launch. Raises ArmFailed."""
    order, found = random.Random(seed), []
    for _ in track(range(launches), label=contender.label, total=launches):
        observed = launch(
            {ARM: contender}, bench, rounds=protocol.rounds, inferences=protocol.inferences_per_round, order=order
        )
        found.append(StoredLaunch(core=observed.core, canary_ns=observed.canary_ns, side=observed.sides[ARM]))
    return tuple(found)
