"""How fast is one image? All rows in turn, in short blocks, so that a slow minute hits all of them alike."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.config import ValidateConfig
from edgeship.errors import RuntimeFailure
from edgeship.measurement import Latency
from edgeship.progress import say, track
from validate.inputs import write_array
from validate.rows import Candidate
from validate.runtimes.client import Worker

WARMUP_RUNS = 3
REWARM_RUNS = 1  # after a pause the caches hold another row's weights
ROUNDS = 10
P99_SAMPLES = 1000  # below this the 99th percentile rests on fewer than ten samples
ORDER_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One row's latency, the process's peak memory, or why there is none."""

    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    instructions: int | None = None
    note: str | None = None
    error: RuntimeFailure | None = None


@dataclass(eq=False, kw_only=True)
class _Clock:
    """One row while it is measured."""

    worker: Worker
    input: str  # where the target has it
    one_launch: bool = False  # of a tool that loads the model anew each time
    load_ms: float | None = None
    first_ms: float | None = None
    discarded_runs: int = 0
    samples_ms: list[float] = field(default_factory=list)
    summary: dict[str, Any] | None = None  # of a tool that keeps its samples to itself

    def needs_more(self, config: ValidateConfig) -> bool:
        """Until `latency_runs` samples, or `latency_seconds` of them."""
        launched = self.summary is not None or bool(self.samples_ms)
        if (self.one_launch and launched) or len(self.samples_ms) >= config.latency_runs:
            return False
        return math.fsum(self.samples_ms) < config.latency_seconds * 1000

    def measure_block(self, config: ValidateConfig) -> None:
        """One block of inferences, after a few that are not counted."""
        discarded = REWARM_RUNS if self.samples_ms else WARMUP_RUNS
        rounds = 1 if self.one_launch else ROUNDS
        answer = self.worker.ask(
            "time",
            inputs=self.input,
            runs=min(math.ceil(config.latency_runs / rounds), config.latency_runs - len(self.samples_ms)),
            seconds=config.latency_seconds / rounds,
            discarded=discarded,
        )
        self.first_ms = answer["first_ms"]
        self.discarded_runs += discarded
        self.samples_ms += [nanoseconds / 1e6 for nanoseconds in answer["samples_ns"]]
        self.summary = answer.get("summary")

    def result(self, config: ValidateConfig) -> Timed:
        """The summary of all blocks."""
        memory: dict[str, Any] = self.worker.ask("memory")
        facts: dict[str, Any] = {
            "warmup_runs": self.discarded_runs, "threads": config.threads,
            "load_ms": self.load_ms, "first_ms": self.first_ms,
        }
        if self.summary is None:
            latency = summarize(self.samples_ms, **facts)
        else:
            latency = Latency(
                median_ms=self.summary["median_ms"], p90_ms=None, p99_ms=None,
                mean_ms=self.summary["mean_ms"], min_ms=self.summary["min_ms"], samples_ms=(), **facts,
            )
        return Timed(latency=latency, peak_memory_bytes=memory["peak_memory_bytes"])


def summarize(
    samples_ms: Sequence[float],
    *,
    warmup_runs: int,
    threads: int,
    load_ms: float | None,
    first_ms: float | None,
) -> Latency:
    """The figures of a row from its raw samples (at least one)."""
    return Latency(
        median_ms=float(np.median(samples_ms)),
        p90_ms=float(np.percentile(samples_ms, 90)),
        p99_ms=float(np.percentile(samples_ms, 99)) if len(samples_ms) >= P99_SAMPLES else None,
        mean_ms=math.fsum(samples_ms) / len(samples_ms),
        min_ms=min(samples_ms),
        warmup_runs=warmup_runs,
        threads=threads,
        load_ms=load_ms,
        first_ms=first_ms,
        samples_ms=tuple(samples_ms),
    )


def measure_latencies(
    candidates: Sequence[Candidate], image: np.ndarray, config: ValidateConfig, *, folder: Path
) -> dict[str, Timed]:
    """Time all candidates on one image; by label.

    Args:
        image: float32 (1, S, S, C), preprocessed. Quantizing it is not timed; copying it in and the
            outputs out is.

    All processes are alive from the first round to the last, and one at a time works. In each of at most ten
    rounds every row gets one block, in a random order of a fixed seed. A row of a tool that loads the model anew
    each time is measured in one round.
    """
    results: dict[str, Timed] = {}
    clocks: dict[str, _Clock] = {}
    with ExitStack() as stack:
        for number, candidate in enumerate(candidates):
            file = write_array(folder / f"latency-{number}.npy", image, candidate.input_kind)
            try:
                clocks[candidate.label] = _load(candidate, file, config, stack)
            except RuntimeFailure as error:
                results[candidate.label] = _failed(error)
        order, shuffled = random.Random(ORDER_SEED), list(clocks)
        for _ in track(range(ROUNDS), label="latency", total=ROUNDS):
            order.shuffle(shuffled)
            for label in shuffled:
                if label not in results and clocks[label].needs_more(config):
                    try:
                        clocks[label].measure_block(config)
                    except RuntimeFailure as error:
                        results[label] = _failed(error)
        for label in [label for label in clocks if label not in results]:
            try:
                results[label] = clocks[label].result(config)
            except RuntimeFailure as error:
                results[label] = _failed(error)
    return results


def _load(candidate: Candidate, file: Path, config: ValidateConfig, stack: ExitStack) -> _Clock:
    target = candidate.target
    path, image = target.put(candidate.path), target.put(file)
    worker = stack.enter_context(Worker(
        candidate.label, timeout_seconds=config.timeout_seconds, threads=config.threads, target=target,
        runtime=candidate.runtime,
    ))
    if config.cpus and candidate.kind.by_runner:
        worker.ask("pin", cpus=list(config.cpus))
    loaded = worker.ask(
        "load", runtime=candidate.runtime, path=path, options={**candidate.options, "threads": config.threads},
    )
    return _Clock(
        worker=worker, input=image, load_ms=loaded["load_ms"], one_launch=candidate.kind.tool
    )


def _failed(error: RuntimeFailure) -> Timed:
    say(str(error))
    return Timed(error=error)
