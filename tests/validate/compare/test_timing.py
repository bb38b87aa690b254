"""The timed part on real runtimes: what it records, how it decides, and every way in which it can end."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.core.comparison import Side
from edgeship.validate.compare.pilot import make_plan, rounds_for
from edgeship.validate.compare.timing import Timed, measure
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.launches import ArmFailed, Bench, Contender, launch
from edgeship.validate.timing.sequential import LOOKS, Design
from edgeship.validate.timing.summary import arm_timing, smallest_detectable, within_launch_sd

Chain = Callable[..., Path]
DESIGN = Design(tolerance=0.02, limit=0.05)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("inputs") / "input.npy"
    np.save(path, np.random.default_rng(0).random((1, 192), np.float32))
    return str(path)


def bench(*, cpus: tuple[int, ...] | None = None) -> Bench:
    usable = tuple(os.sched_getaffinity(0))
    return Bench(
        target=Target(), runtime="onnxruntime", threads=1, cpus=usable if cpus is None else cpus, timeout_seconds=60
    )


def arms(inputs: str, **paths: Path) -> dict[str, Contender]:
    return {name: Contender(label=name, path=str(path), inputs=(inputs,)) for name, path in paths.items()}


def test_a_launch_records_every_round_of_every_arm(chain: Chain, inputs: str) -> None:
    contenders = arms(inputs, baseline=chain(4), candidate=chain(4), third=chain(40))
    observed = launch(contenders, bench(), rounds=7, inferences=5, order=random.Random(1))
    assert set(observed.sides) == set(contenders)
    for side in observed.sides.values():
        assert len(side.wall_ns) == len(side.cpu_ns) == 7
        assert min(side.wall_ns) > 0 and min(side.cpu_ns) > 0
        assert side.load_ms is not None and side.first_ms is not None and side.involuntary_switches is not None
    assert observed.core in os.sched_getaffinity(0)
    assert observed.canary_ns is not None and observed.canary_ns > 0
    # Ten times the work; a fifth of it is far outside what noise does to a minimum of seven rounds.
    assert min(observed.sides["third"].cpu_ns) > 2 * min(observed.sides["baseline"].cpu_ns)


def test_a_core_that_may_not_be_used_is_the_targets_fault_not_an_arms(chain: Chain, inputs: str) -> None:
    timed = measure(
        arms(inputs, baseline=chain(4), candidate=chain(4)), bench(cpus=(4095,)), DESIGN, max_seconds=60, seed=0
    )
    assert timed.verdict == "refused"
    assert "expected processors of [" in timed.reasons[0] and "--no-pin" in timed.reasons[0]


def test_twice_the_work_is_a_regression_and_half_of_it_an_improvement(chain: Chain, inputs: str) -> None:
    slower = measure(arms(inputs, baseline=chain(20), candidate=chain(40)), bench(), DESIGN, max_seconds=600, seed=0)
    assert slower.verdict == "regression", slower.reasons
    assert "the tolerance is 2.0%" in slower.reasons[0]
    timing = slower.timing
    assert timing is not None and timing.ratio is not None and timing.ratio_low is not None
    assert 1.02 < timing.ratio_low < timing.ratio
    assert timing.launches == len(timing.samples) in LOOKS
    assert timing.baseline is not None and timing.candidate is not None
    assert timing.baseline.p99_ms is None  # too few inferences for a 99th percentile
    faster = measure(arms(inputs, baseline=chain(40), candidate=chain(20)), bench(), DESIGN, max_seconds=600, seed=0)
    assert faster.verdict == "improved", faster.reasons


def test_time_that_is_up_is_inconclusive_with_what_to_do(chain: Chain, inputs: str) -> None:
    """A tolerance and a limit so close that no number of launches in a second decides."""
    design = replace(DESIGN, tolerance=0.0, limit=0.0001)
    timed = measure(arms(inputs, baseline=chain(20), candidate=chain(20)), bench(), design, max_seconds=2, seed=0)
    assert timed.verdict == "inconclusive"
    assert timed.timing is not None and "--max-seconds 2 were used up" in timed.timing.stopped
    assert timed.advice


def test_a_candidate_that_alone_does_not_run_is_a_regression(chain: Chain, inputs: str) -> None:
    fine, broken = chain(4), chain(4, name="broken", last="NoSuchOperation")
    failing = measure(arms(inputs, baseline=fine, candidate=broken), bench(), DESIGN, max_seconds=60, seed=0)
    assert failing.verdict == "regression"
    assert failing.reasons[0].startswith("only the candidate fails: ")
    assert "NoSuchOperation" in failing.reasons[0]
    other = measure(arms(inputs, baseline=broken, candidate=fine), bench(), DESIGN, max_seconds=60, seed=0)
    assert (other.verdict, other.reasons[0][:24]) == ("refused", "only the baseline fails,")
    both = measure(arms(inputs, baseline=broken, candidate=broken), bench(), DESIGN, max_seconds=60, seed=0)
    assert both.verdict == "refused" and both.reasons[0].startswith("neither arm runs: ")


def test_the_failing_arm_is_named(chain: Chain, inputs: str) -> None:
    with pytest.raises(ArmFailed, match="NoSuchOperation") as caught:
        launch(
            arms(inputs, good=chain(4), bad=chain(4, name="broken", last="NoSuchOperation")), bench(), rounds=1,
            inferences=1, order=random.Random(0),
        )
    assert caught.value.arm == "bad"


def test_interrupted_samples_are_kept_and_marked(
    chain: Chain, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the fourth counted launch; the pilot makes two before."""
    timed = interrupted_after(5, chain, inputs, monkeypatch)
    assert timed.interrupted and timed.verdict == "inconclusive"
    assert timed.timing is not None and timed.timing.stopped == "interrupted"
    assert timed.timing.launches == len(timed.timing.samples) == 3
    assert timed.timing.ratio_low is None  # no look was taken


def test_interrupted_in_the_pilot(chain: Chain, inputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = interrupted_after(1, chain, inputs, monkeypatch)
    assert timed.interrupted and timed.timing is None


def interrupted_after(launches: int, chain: Chain, inputs: str, monkeypatch: pytest.MonkeyPatch) -> Timed:
    made = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal made
        if made == launches:
            raise KeyboardInterrupt
        made += 1
        return launch(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("edgeship.validate.compare.timing.launch", counted)
    monkeypatch.setattr("edgeship.validate.compare.pilot.launch", counted)
    return measure(arms(inputs, baseline=chain(4), candidate=chain(4)), bench(), DESIGN, max_seconds=60, seed=0)


def test_the_pilot_fixes_rounds_and_inferences(chain: Chain, inputs: str) -> None:
    plan = make_plan(arms(inputs, baseline=chain(4), candidate=chain(4)), bench(), order=random.Random(0))
    assert plan.inferences > 1  # a chain of four takes far less than a round should
    assert 10 <= plan.rounds <= 20
    assert plan.metric in ("cpu_time", "wall_time")
    assert plan.wall_per_cpu is not None


@pytest.mark.parametrize(("cost", "each", "rounds"), [(0.5, 0.012, 17), (0.5, 0.08, 10), (5.0, 0.001, 20)])
def test_rounds_for(cost: float, each: float, rounds: int) -> None:
    assert rounds_for(cost, each) == rounds


def side(*milliseconds: float, cpu: float = 1.0) -> Side:
    return Side(
        wall_ns=tuple(value * 1e6 for value in milliseconds), cpu_ns=tuple(cpu * value * 1e6 for value in milliseconds),
        load_ms=3.0, first_ms=2.0, involuntary_switches=0,
    )


def test_figures_of_an_arm() -> None:
    found = arm_timing([side(1, 2, 3), side(4, 5, 6)], inferences=4)
    assert found is not None
    assert (found.median_ms, found.min_ms, found.mean_ms, found.load_ms) == (3.5, 1, 3.5, 3)
    assert found.p99_ms is None
    thousand = arm_timing([side(*range(1, 1002))], inferences=1)
    assert thousand is not None and thousand.p99_ms == pytest.approx(991)
    assert arm_timing([], inferences=1) is None


def test_smallest_detectable_shrinks_with_launches_and_starts_at_the_tolerance() -> None:
    few, many = (smallest_detectable(0.01, count, DESIGN) for count in (10, 1000))
    assert few is not None and many is not None and few > many > 0.02
    # t(0.99, 9) + t(0.9, 9) = 2.821 + 1.383
    assert few == pytest.approx(1.02 * math.exp(4.204 * 0.01 / math.sqrt(10)) - 1, rel=0.02)
    assert smallest_detectable(None, 1, DESIGN) is None
    assert within_launch_sd([], "wall_time") is None
