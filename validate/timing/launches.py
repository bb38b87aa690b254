"""One launch: every arm in a fresh process, all on one core, taking turns in random order within the same seconds.

The launch is the unit of evidence. Two processes of the very same file differ by about 1 % in speed for as long as they
live (where their memory happens to lie), so a thousand inferences of one pair of processes are one observation.
Taking turns within seconds makes everything else that slows a machine down hit both arms alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgeship.core.comparison import CPU_TIME, Side
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.target import Target

WARMUP_RUNS = 3  # the first call is up to twice as slow, the second is steady; seen with both runtimes
ROUND_SECONDS = 60.0  # ends a round of a runtime that has become very slow


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One arm, ready to be started: paths are the target's."""

    label: str
    path: str
    inputs: tuple[str, ...]  # an .npy file per input; their first example is used
    options: dict[str, Any] = field(default_factory=dict)  # of the opener, besides `threads`


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all arms of a check share."""

    target: Target
    runtime: str
    threads: int
    cpus: tuple[int, ...]  # one of them is drawn for each launch; empty: not bound
    timeout_seconds: float

    @property
    def takes_turns(self) -> bool:
        """Whether rounds are possible: a maker's tool loads the model anew each time it is started."""
        return not RUNTIMES[self.runtime].tool


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a launch gave."""

    sides: dict[str, Side]
    core: int | None
    canary_ns: int | None


class ArmFailed(RuntimeFailure):
    """One arm failed; `arm` is its key, `cause` what it failed with."""

    def __init__(self, arm: str, cause: RuntimeFailure) -> None:
        super().__init__(str(cause))
        self.arm, self.cause = arm, cause


def launch(
    contenders: Mapping[str, Contender], bench: Bench, *, rounds: int, inferences: int, order: random.Random
) -> Observed:
    """Start every arm, warm it up, and time `rounds` of `inferences` each.

    Raises:
        ArmFailed: an arm crashed, hung or refused, or the target was lost while it was asked.
    """
    core = order.choice(bench.cpus) if bench.cpus else None
    names = list(contenders)
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        loaded: dict[str, dict[str, Any]] = {}
        for name in _shuffled(names, order):
            with _blaming(name):
                workers[name] = stack.enter_context(_start(contenders[name], bench))
        for name in _shuffled(names, order):
            with _blaming(name):
                loaded[name] = _load(workers[name], contenders[name], bench, core)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        canary_ns = None
        if bench.takes_turns:
            for name in _shuffled(names, order):
                with _blaming(name):
                    warm = _time(workers[name], contenders[name], 1, discarded=WARMUP_RUNS)
                    loaded[name]["first_ms"] = warm["first_ms"]
            with _blaming(names[0]):
                canary_ns = int(workers[names[0]].ask("canary")["canary_ns"])
        discarded = 0 if bench.takes_turns else WARMUP_RUNS
        for _ in range(rounds):
            for name in _shuffled(names, order):
                with _blaming(name):
                    turns[name].append(_time(workers[name], contenders[name], inferences, discarded=discarded))
    return Observed(
        sides={name: _side(loaded[name], turns[name]) for name in names}, core=core, canary_ns=canary_ns
    )


def round_times(side: Side, metric: str) -> tuple[float, ...]:
    """Return the rounds' nanoseconds per inference, of the metric."""
    return side.cpu_ns if metric == CPU_TIME else side.wall_ns


def rounds_of(sides: Iterable[Side], metric: str) -> list[float]:
    """Return the rounds of all these sides, in their order."""
    return [duration for side in sides for duration in round_times(side, metric)]


def _start(contender: Contender, bench: Bench) -> Worker:
    return Worker(
        contender.label, timeout_seconds=bench.timeout_seconds, threads=bench.threads, target=bench.target,
        runtime=bench.runtime,
    )


def _load(worker: Worker, contender: Contender, bench: Bench, core: int | None) -> dict[str, Any]:
    if core is not None:
        try:
            worker.ask("pin", cpus=[core])
        except TargetFailure:
            raise
        except RuntimeFailure as error:  # whoever forbids that, it is not the artifact
            raise TargetFailure(
                f"{error}; both arms should run on one core: choose among those that may be used with --cpus, or "
                "accept a noisier comparison with --no-pin"
            ) from error
    answer = worker.ask(
        "load", runtime=bench.runtime, path=contender.path, options={**contender.options, "threads": bench.threads}
    )
    return {"load_ms": answer["load_ms"], "first_ms": None}


def _time(worker: Worker, contender: Contender, runs: int, *, discarded: int) -> dict[str, Any]:
    return worker.ask("time", inputs=list(contender.inputs), runs=runs, seconds=ROUND_SECONDS, discarded=discarded)


@contextmanager
def _blaming(arm: str) -> Iterator[None]:
    try:
        yield
    except RuntimeFailure as error:
        raise ArmFailed(arm, error) from error


def _side(loaded: Mapping[str, Any], turns: list[dict[str, Any]]) -> Side:
    if "summary" in turns[0]:  # a tool that keeps its samples to itself
        wall = tuple(_summary_ns(turn["summary"]) for turn in turns)
        return Side(
            wall_ns=wall, cpu_ns=(), load_ms=loaded["load_ms"], first_ms=turns[0]["first_ms"],
            involuntary_switches=None,
        )
    switches = [turn["switches"] for turn in turns if turn["switches"] is not None]
    return Side(
        wall_ns=tuple(sum(turn["samples_ns"]) / len(turn["samples_ns"]) for turn in turns),
        cpu_ns=tuple(
            turn["cpu_ns"] / len(turn["samples_ns"]) for turn in turns if turn["cpu_ns"] is not None
        ),
        load_ms=loaded["load_ms"], first_ms=loaded["first_ms"],
        involuntary_switches=sum(switches) if switches else None,
    )


def _summary_ns(summary: Mapping[str, Any]) -> float:
    median_ms = summary["median_ms"]
    return float(summary["mean_ms"] if median_ms is None else median_ms) * 1e6


def _shuffled(names: list[str], order: random.Random) -> list[str]:
    return order.sample(names, len(names))
