"""How fast is one example? In several launches, in which all rows take turns: a slow minute hits them all alike.

A launch is a fresh process for every row. Two processes of the very same file differ by about 1 % for as long as they
live (where their memory happens to lie), so a thousand inferences of one process are one observation, and what is said
of a speed-up rests on the launches (validate/timing/speedup.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.measurement import Latency, LatencyLaunch, Profile
from edgeship.core.progress import say, track
from edgeship.core.sustained import Sustained
from edgeship.validate.process.client import Worker
from edgeship.validate.subject.inputs import write_arrays
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.timing.launches import WARMUP_RUNS
from edgeship.validate.timing.ratios import choose_metric, wall_per_cpu
from edgeship.validate.timing.speedup import reference_of, speedup
from edgeship.validate.timing.summary import P99_SAMPLES, median_known

REWARM_RUNS = 1  # after a pause the caches hold another row's weights
ROUNDS = 5  # per launch: more of them say less than another launch does
ORDER_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured of one row's speed, or why it was not."""

    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    profile: Profile | None = None
    instructions: int | None = None
    sustained: Sustained | None = None
    note: str | None = None
    error: RuntimeFailure | None = None


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What one launch of a row may take."""

    runs: int
    seconds: float


@dataclass(eq=False, kw_only=True)
class _Clock:
    """One row in one launch."""

    worker: Worker
    inputs: list[str]  # where the target has them
    one_launch: bool  # of a tool that loads the model anew each time
    load_ms: float | None
    first_ms: float | None = None
    rounds_ms: list[tuple[float, ...]] = field(default_factory=list)
    rounds_cpu_ms: list[float] = field(default_factory=list)
    summary: dict[str, Any] | None = None  # of a tool that keeps its samples to itself

    def needs_more(self, quota: Quota) -> bool:
        """Until the quota's runs, or its seconds."""
        timed = [sample for samples in self.rounds_ms for sample in samples]
        launched = self.summary is not None or bool(timed)
        if (self.one_launch and launched) or len(timed) >= quota.runs:
            return False
        return math.fsum(timed) < quota.seconds * 1000

    def measure_round(self, quota: Quota) -> None:
        """This row's turn: inferences in a row, after a few that are not counted."""
        rounds = 1 if self.one_launch else ROUNDS
        timed = sum(map(len, self.rounds_ms))
        answer = self.worker.ask(
            "time",
            inputs=self.inputs,
            runs=min(math.ceil(quota.runs / rounds), quota.runs - timed),
            seconds=quota.seconds / rounds,
            discarded=REWARM_RUNS if timed else WARMUP_RUNS,
        )
        self.first_ms = answer["first_ms"]
        self.rounds_ms.append(tuple(nanoseconds / 1e6 for nanoseconds in answer["samples_ns"]))
        if answer.get("cpu_ns") is not None:
            self.rounds_cpu_ms.append(answer["cpu_ns"] / 1e6 / len(answer["samples_ns"]))
        self.summary = answer.get("summary")

    def result(self) -> LatencyLaunch:
        """All rounds."""
        if self.summary is not None:
            figures = {name: self.summary[name] for name in ("median_ms", "mean_ms", "min_ms")}
            return LatencyLaunch(
                load_ms=self.load_ms, first_ms=self.first_ms, rounds_ms=(), rounds_cpu_ms=(), **figures
            )
        samples = [sample for samples in self.rounds_ms for sample in samples]
        return LatencyLaunch(
            load_ms=self.load_ms,
            first_ms=self.first_ms,
            median_ms=float(np.median(samples)),
            mean_ms=math.fsum(samples) / len(samples),
            min_ms=min(samples),
            rounds_ms=tuple(self.rounds_ms),
            rounds_cpu_ms=tuple(self.rounds_cpu_ms),
        )


def measure_latencies(
    candidates: Sequence[Candidate], golden_inputs: Sequence[np.ndarray], config: ValidateConfig, *, folder: Path
) -> dict[str, Timed]:
    """Time all candidates of one target on one example; by label.

    Args:
        golden_inputs: one array per input, of shape (examples, ...); the first example is taken. Quantizing it is not
            timed; copying it in and the outputs out is.

    In each launch the processes of all rows are alive at once and one at a time works: in each of a few rounds every
    row has its turn, in a random order of a fixed seed. Where a target's processes are too large for that, the rows
    of a launch come one after the other.
    """
    order = random.Random(ORDER_SEED)
    inputs = {
        candidate.label: write_example(folder, f"latency-{number}", golden_inputs, candidate)
        for number, candidate in enumerate(candidates)
    }
    launches: dict[str, list[LatencyLaunch]] = {candidate.label: [] for candidate in candidates}
    errors: dict[str, RuntimeFailure] = {}
    for number in track(range(config.latency_launches), label="latency", total=config.latency_launches):
        quota = _quota(number, config)
        going = [candidate for candidate in candidates if candidate.label not in errors]
        order.shuffle(going)
        together = all(candidate.target.times_together for candidate in going)
        for group in [going] if together else [[candidate] for candidate in going]:
            for label, found in _launch(group, inputs, config, quota, order).items():
                if isinstance(found, RuntimeFailure):
                    say(str(found))
                    errors[label] = found
                else:
                    launches[label].append(found)
    return {
        candidate.label: Timed(error=errors[candidate.label]) if candidate.label in errors
        else Timed(latency=_latency(candidate, candidates, launches, config))
        for candidate in candidates
    }


def summarize(launches: Sequence[LatencyLaunch], *, threads: int) -> Latency:
    """The figures of a row from its launches (at least one), without a speed-up."""
    samples = [sample for launch in launches for samples in launch.rounds_ms for sample in samples]
    medians = [launch.median_ms for launch in launches if launch.median_ms is not None]
    cpu_ms = [duration for launch in launches for duration in launch.rounds_cpu_ms]
    rounds = sum(len(launch.rounds_ms) for launch in launches)
    return Latency(
        median_ms=float(np.median(samples or medians)) if medians else None,
        p90_ms=float(np.percentile(samples, 90)) if samples else None,
        p99_ms=float(np.percentile(samples, 99)) if len(samples) >= P99_SAMPLES else None,
        mean_ms=math.fsum(samples or [launch.mean_ms for launch in launches]) / len(samples or launches),
        min_ms=min(launch.min_ms for launch in launches),
        median_cpu_ms=float(np.median(cpu_ms)) if cpu_ms else None,
        launch_sd=float(np.std(np.log(medians), ddof=1)) if len(medians) > 1 else None,
        wall_per_cpu=wall_per_cpu(*_wall_and_cpu_ms(launches)),
        warmup_runs=len(launches) * WARMUP_RUNS + max(rounds - len(launches), 0) * REWARM_RUNS,
        threads=threads,
        load_ms=median_known([launch.load_ms for launch in launches]),
        first_ms=median_known([launch.first_ms for launch in launches]),
        speedup=None,
        speedup_ci95=None,
        speedup_over=None,
        speedup_metric=None,
        launches=tuple(launches),
    )


def _wall_and_cpu_ms(launches: Sequence[LatencyLaunch]) -> tuple[list[float], list[float]]:
    """Return the wall time and the CPU time of each whole round; no round where CPU time was not measured."""
    rounds = [
        (math.fsum(samples), cpu_ms * len(samples)) for launch in launches
        for samples, cpu_ms in zip(launch.rounds_ms, launch.rounds_cpu_ms, strict=False)
    ]
    return [wall for wall, _ in rounds], [cpu for _, cpu in rounds]


def _latency(
    candidate: Candidate, candidates: Sequence[Candidate], launches: Mapping[str, Sequence[LatencyLaunch]],
    config: ValidateConfig,
) -> Latency:
    latency = summarize(launches[candidate.label], threads=config.threads)
    reference = reference_of(candidate, candidates)
    # One of its launches failed: what is left of them has no partners in the same seconds.
    if reference is None or len(launches[reference.label]) != len(launches[candidate.label]):
        return latency
    own, others = launches[candidate.label], launches[reference.label]
    metric = choose_metric(
        threads=config.threads, cpu_time_measured=all(launch.rounds_cpu_ms for launch in (*own, *others))
    )
    estimate, interval = speedup(own, others, metric=metric)
    return replace(
        latency, speedup=estimate, speedup_ci95=interval, speedup_over=reference.label, speedup_metric=metric
    )


def _quota(number: int, config: ValidateConfig) -> Quota:
    """The share of the launch `number`, so that all of them add up."""
    runs, launches = config.latency_runs, config.latency_launches
    return Quota(
        runs=max(1, runs * (number + 1) // launches - runs * number // launches),
        seconds=config.latency_seconds / launches,
    )


def _launch(
    rows: Sequence[Candidate], inputs: Mapping[str, tuple[Path, ...]], config: ValidateConfig, quota: Quota,
    order: random.Random,
) -> dict[str, LatencyLaunch | RuntimeFailure]:
    """Start a process for each row, and let them take turns; by label."""
    workers: dict[str, Worker] = {}
    clocks: dict[str, _Clock] = {}
    failures: dict[str, RuntimeFailure] = {}
    with ExitStack() as stack:
        for row in rows:
            with _kept(failures, row.label):
                workers[row.label] = start_row(row, config, stack)
        # They import at once, which TensorFlow needs seconds for, and load one by one, which is timed.
        for label, worker in workers.items():
            with _kept(failures, label):
                worker.answer()
        for row in rows:
            if row.label not in failures:
                with _kept(failures, row.label):
                    clocks[row.label] = _load(row, workers[row.label], inputs[row.label], config)
        for _ in range(ROUNDS):
            for label in order.sample(list(clocks), len(clocks)):
                if label not in failures and clocks[label].needs_more(quota):
                    with _kept(failures, label):
                        clocks[label].measure_round(quota)
    return {**{label: clock.result() for label, clock in clocks.items() if label not in failures}, **failures}


@contextmanager
def _kept(failures: dict[str, RuntimeFailure], label: str) -> Iterator[None]:
    """A row that fails does not stop the others."""
    try:
        yield
    except RuntimeFailure as error:
        failures[label] = error


def start_row(row: Candidate, config: ValidateConfig, stack: ExitStack) -> Worker:
    """A fresh process that is importing its runtime (`answer` waits for that); it ends with `stack`."""
    worker = stack.enter_context(Worker(
        row.label, timeout_seconds=config.timeout_seconds, threads=config.threads, target=row.target,
        runtime=row.runtime,
    ))
    if config.cpus and row.kind.by_runner:
        worker.ask("pin", cpus=list(config.cpus))
    worker.send("import", runtime=row.runtime)
    return worker


def load_row(row: Candidate, worker: Worker, config: ValidateConfig) -> dict[str, Any]:
    """Have the row's file loaded; the answer."""
    return worker.ask(
        "load", runtime=row.runtime, path=row.target.put(row.path),
        options={**row.options, "threads": config.threads},
    )


def write_example(folder: Path, name: str, golden_inputs: Sequence[np.ndarray], row: Candidate) -> tuple[Path, ...]:
    """Write the first example as the row's file takes it, one .npy file per input; return their paths."""
    return write_arrays(folder, name, [values[:1] for values in golden_inputs], row.input_kinds)


def _load(row: Candidate, worker: Worker, example: Sequence[Path], config: ValidateConfig) -> _Clock:
    loaded = load_row(row, worker, config)
    return _Clock(
        worker=worker, inputs=[row.target.put(path) for path in example], load_ms=loaded["load_ms"],
        one_launch=row.kind.tool,
    )
