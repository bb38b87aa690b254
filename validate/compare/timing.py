"""The timed part of a check: launches until the sequential decision, or until the time is up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeship.core.comparison import (
    CPU_TIME,
    INCONCLUSIVE,
    METRIC_NAMES,
    REFUSED,
    REGRESSION,
    WALL_TIME,
    Launch,
    Side,
    Timing,
)
from edgeship.core.errors import TargetFailure
from edgeship.core.progress import doing, up_to
from edgeship.validate.compare.pilot import Plan, make_plan
from edgeship.validate.targets.target import DEVICE
from edgeship.validate.timing.launches import ArmFailed, Bench, Contender, launch, round_times, rounds_of
from edgeship.validate.timing.ratios import change_percent, log_ratio, wall_per_cpu
from edgeship.validate.timing.sequential import Design, Look, launches_needed, look_at
from edgeship.validate.timing.signed_rank import hodges_lehmann
from edgeship.validate.timing.summary import (
    BASELINE,
    CANDIDATE,
    arm_timing,
    finite_exp,
    smallest_detectable,
    within_launch_sd,
)

# Wall time on crowded cores is no measure of "not slower": waiting for others is in both arms alike and dilutes the
# difference (a true 5 % showed as 3.5 % at a saturation of 2). Alone, a process is put off its core once in seconds;
# with another that wants the core, after every time slice of a few milliseconds.
CROWDED_SWITCHES_PER_SECOND = 20.0
# A device whose fixed piece of work takes this much longer than at first has lowered its clock.
CANARY_SLOWER = 1.10
MOST_DISCARDED = 0.2  # of the planned launches
COOLING_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What came of it."""

    verdict: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...] = ()
    timing: Timing | None = None
    interrupted: bool = False


@dataclass(eq=False, kw_only=True)
class _Run:
    """A check while it runs."""

    plan: Plan
    design: Design
    started_s: float
    samples: list[Launch] = field(default_factory=list)
    look: Look | None = None
    looks_taken: int = 0

    @property
    def log_ratios(self) -> list[float]:
        return [sample.log_ratio for sample in self.samples if sample.discarded is None]

    @property
    def discarded(self) -> int:
        return sum(sample.discarded is not None for sample in self.samples)

    def take_look(self) -> None:
        self.look = look_at(self.log_ratios, self.looks_taken, self.design)
        self.looks_taken += 1


def measure(
    contenders: Mapping[str, Contender],
    bench: Bench,
    design: Design,
    *,
    max_seconds: float,
    seed: int,
    full: bool = False,
) -> Timed:
    """Time "baseline" against "candidate".

    Args:
        full: go on to the last look or the end of the time, whatever the looks say: for a self-test, which asks
            what could be seen.

    Ctrl-C, a failing arm and a lost target end it with what was measured so far.
    """
    order, started_s = random.Random(seed), time.monotonic()
    run: _Run | None = None
    try:
        plan = make_plan(contenders, bench, order=order)
        doing(
            f"{bench.runtime}: {METRIC_NAMES[plan.metric]}, {plan.rounds} rounds of {plan.inferences} inferences per "
            f"launch, about {plan.launch_seconds:.1f} s each"
        )
        run = _Run(plan=plan, design=design, started_s=started_s)
        stopped = _launch_until_decided(run, contenders, bench, order, max_seconds=max_seconds, full=full)
    except ArmFailed as error:
        return _failed(error, contenders, bench, run)
    except KeyboardInterrupt:
        return Timed(
            verdict=INCONCLUSIVE, reasons=("interrupted before it was decided",),
            timing=None if run is None else _timing(run, "interrupted"), interrupted=True,
        )
    return _decided(run, stopped)


def _launch_until_decided(
    run: _Run,
    contenders: Mapping[str, Contender],
    bench: Bench,
    order: random.Random,
    *,
    max_seconds: float,
    full: bool,
) -> str:
    """Why it stopped."""
    plan, looks = run.plan, run.design.looks
    first_canary_ns: int | None = None
    while run.looks_taken < len(looks):
        elapsed = time.monotonic() - run.started_s
        if elapsed + plan.launch_seconds > max_seconds:
            if run.log_ratios:
                run.take_look()  # with what the next planned look may spend: that one is not going to happen
            return f"--max-seconds {max_seconds:g} were used up after {len(run.log_ratios)} launches"
        with up_to(min((len(run.log_ratios) + 1) / looks[-1], 1.0)):
            observed = launch(contenders, bench, rounds=plan.rounds, inferences=plan.inferences, order=order)
        first_canary_ns = first_canary_ns or observed.canary_ns
        slower = _slower_clock(bench, first_canary_ns, observed.canary_ns)
        run.samples.append(Launch(
            log_ratio=_log_ratio(observed.sides[CANDIDATE], observed.sides[BASELINE], plan.metric),
            core=observed.core, canary_ns=observed.canary_ns, baseline=observed.sides[BASELINE],
            candidate=observed.sides[CANDIDATE], discarded=slower,
        ))
        if slower is not None:
            if run.discarded > MOST_DISCARDED * looks[-1]:
                return f"the clock kept changing: {slower}"
            time.sleep(COOLING_SECONDS)
            continue
        if len(run.log_ratios) == looks[run.looks_taken]:
            run.take_look()
            if run.look is not None and run.look.verdict is not None and not full:
                return "decided"
    return f"all {looks[-1]} planned launches were made"


def _log_ratio(candidate: Side, baseline: Side, metric: str) -> float:
    return log_ratio(round_times(candidate, metric), round_times(baseline, metric))


def _slower_clock(bench: Bench, first_ns: int | None, now_ns: int | None) -> str | None:
    """Only of devices: on a shared machine others slow the fixed piece of work as well, and both arms alike."""
    if bench.target.kind != DEVICE or first_ns is None or now_ns is None or now_ns <= CANARY_SLOWER * first_ns:
        return None
    return f"a fixed piece of work took {now_ns / first_ns:.2f} times as long as at first"


def _decided(run: _Run, stopped: str) -> Timed:
    timing = _timing(run, stopped)
    look = run.look
    if look is None:
        return Timed(verdict=INCONCLUSIVE, reasons=(stopped,), advice=("raise --max-seconds",), timing=timing)
    found = (
        f"{METRIC_NAMES[timing.metric]} per inference changed by {change_percent(look.estimate)} "
        f"({change_percent(look.lower)} to {change_percent(look.upper)}, {timing.launches} launches)"
    )
    if look.verdict == REGRESSION:
        return Timed(
            verdict=REGRESSION, reasons=(f"{found}; the tolerance is {run.design.tolerance:.1%}",), timing=timing
        )
    if look.verdict is not None:
        doubt = _waits(run) if timing.metric == CPU_TIME else _crowded(run)
        if doubt is None:
            return Timed(
                verdict=look.verdict, reasons=(f"{found}; the limit is {run.design.limit:.1%}",), timing=timing
            )
        return Timed(
            verdict=INCONCLUSIVE, timing=timing, reasons=(f"{found}; but {doubt}",),
            advice=("run it again on a quieter machine",),
        )
    return Timed(
        verdict=INCONCLUSIVE, timing=timing, advice=_advice(run),
        reasons=(f"{found}: neither above the tolerance of {run.design.tolerance:.1%} nor below the limit of "
                 f"{run.design.limit:.1%}; {stopped}",),
    )


def _waits(run: _Run) -> str | None:
    """Why CPU time does not tell all: the candidate's wall time is longer than the tolerance allows all the same."""
    counted = [sample for sample in run.samples if sample.discarded is None]
    ratios = [_log_ratio(item.candidate, item.baseline, WALL_TIME) for item in counted]
    look = look_at(ratios, max(run.looks_taken - 1, 0), run.design)
    if look.lower <= math.log1p(run.design.tolerance):
        return None
    change, least = change_percent(look.estimate), change_percent(look.lower)
    return f"its wall time changed by {change} ({least} at least): it waits for something"


def _crowded(run: _Run) -> str | None:
    """Why wall time may hide a slowdown: both arms waited for others, which dilutes their difference."""
    sides = [side for sample in run.samples for side in (sample.baseline, sample.candidate)]
    switches = [side.involuntary_switches for side in sides if side.involuntary_switches is not None]
    seconds = sum(sum(side.cpu_ns) for side in sides) * run.plan.inferences / 1e9
    if not switches or not seconds or sum(switches) / seconds <= CROWDED_SWITCHES_PER_SECOND:
        return None
    return (
        f"others had the cores ({sum(switches) / seconds:.0f} forced switches per second of CPU time), which hides "
        "slowdowns"
    )


def _advice(run: _Run) -> tuple[str, ...]:
    count = len(run.log_ratios)
    needed = None if run.look is None else launches_needed(run.look, count, run.design)
    if needed is None or needed <= count:
        return ("make more launches with a larger --max-seconds, or widen --tolerance and --limit",)
    seconds = math.ceil(needed * run.plan.launch_seconds / 10) * 10
    last = run.design.looks[-1]
    if needed <= last:
        return (f"about {needed} launches would decide it: --max-seconds {max(seconds, 10)}",)
    return (
        f"about {needed} launches would decide it, and {last} are planned at most: the launches differ too much here "
        "(see launch_sd), so use a quieter machine, or a wider --limit",
    )


def _failed(
    error: ArmFailed, contenders: Mapping[str, Contender], bench: Bench, run: _Run | None
) -> Timed:
    """An arm's failure. Is it that arm alone? Then the candidate's is a regression, and the baseline's no basis."""
    timing = None if run is None else _timing(run, str(error))
    if isinstance(error.cause, TargetFailure):
        return Timed(verdict=REFUSED, reasons=(str(error),), timing=timing)
    other = CANDIDATE if error.arm == BASELINE else BASELINE
    try:
        launch({other: contenders[other]}, bench, rounds=1, inferences=1, order=random.Random(0))
    except ArmFailed as second:
        reason = f"neither arm runs: {error}" if not isinstance(second.cause, TargetFailure) else str(second)
        return Timed(verdict=REFUSED, reasons=(reason,), timing=timing)
    if error.arm == CANDIDATE:
        return Timed(verdict=REGRESSION, reasons=(f"only the candidate fails: {error}",), timing=timing)
    return Timed(
        verdict=REFUSED, timing=timing,
        reasons=(f"only the baseline fails, so there is nothing to compare with: {error}",),
    )


def _timing(run: _Run, stopped: str) -> Timing:
    counted = [sample for sample in run.samples if sample.discarded is None]
    log_ratios, plan, design = run.log_ratios, run.plan, run.design
    look = run.look
    sides = [side for sample in counted for side in (sample.baseline, sample.candidate)]
    launch_sd = float(np.std(log_ratios, ddof=1)) if len(log_ratios) > 1 else None
    return Timing(
        metric=plan.metric,
        ratio=math.exp(hodges_lehmann(log_ratios)) if log_ratios else None,
        ratio_low=None if look is None else finite_exp(look.lower),
        ratio_high=None if look is None else finite_exp(look.upper),
        alpha=design.alpha, beta=design.beta, tolerance=design.tolerance, limit=design.limit,
        launches=len(log_ratios), rounds=plan.rounds, inferences_per_round=plan.inferences, looks=design.looks,
        smallest_detectable=smallest_detectable(launch_sd, len(log_ratios), design),
        launch_sd=launch_sd, round_sd=within_launch_sd(counted, plan.metric),
        wall_per_cpu=wall_per_cpu(rounds_of(sides, WALL_TIME), rounds_of(sides, CPU_TIME)),
        seconds=time.monotonic() - run.started_s, stopped=stopped,
        baseline=arm_timing([sample.baseline for sample in counted], plan.inferences),
        candidate=arm_timing([sample.candidate for sample in counted], plan.inferences),
        samples=tuple(run.samples),
    )
