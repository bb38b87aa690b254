"""What a run of its own tells of a row, since watching disturbs the clock: peak memory, and each operation's time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.measurement import OperationTime, Profile
from edgeship.core.progress import say
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import PROFILE
from edgeship.validate.subject.inputs import write_array
from edgeship.validate.subject.rows import CPU, Candidate
from edgeship.validate.timing.latency import Timed, load_row, start_row

MEMORY_RUNS = 3  # the first one allocates
PROFILED_RUNS, WARM_UP_RUNS = 20, 3
PROFILED_SECONDS = 5.0
NOT_BY_RUNNER = "its process is not ours to profile"
CONVOLUTION = "Convolution"  # how the name of each of XNNPACK's begins
CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})  # what becomes one
DELEGATE = "DELEGATE"


def measure_alone(row: Candidate, image: np.ndarray, config: ValidateConfig, *, folder: Path) -> Timed:
    """Peak memory and profile of a row, in processes of their own, as a Timed without latency.

    Only what users run is profiled. A profile that cannot be had is a note, no error.
    """
    inputs = write_array(folder / "alone.npy", image, row.input_kinds[0])
    try:
        with ExitStack() as stack:
            worker = start_row(row, config, stack)
            worker.answer()
            load_row(row, worker, config)
            there = row.target.put(inputs)
            # For a bridge that tells the memory of what it ran last.
            worker.ask("time", inputs=there, runs=MEMORY_RUNS, seconds=config.latency_seconds, discarded=0)
            found = Timed(peak_memory_bytes=worker.ask("memory")["peak_memory_bytes"])
            if not row.kind.production:
                return found
            return _with_profile(found, row, worker, there, config)
    except RuntimeFailure as error:
        say(str(error))
        return Timed(error=error)


def _with_profile(found: Timed, row: Candidate, worker: Worker, inputs: str, config: ValidateConfig) -> Timed:
    """`found` with the profile, or with a note of why there is none."""
    try:
        if not row.kind.by_runner:
            return replace(found, note=_note(row, NOT_BY_RUNNER))
        if PROFILE in row.kind.probes and row.target.name == CPU:
            plan = worker.ask("plan")["plan"]
            answer = _probe(row, inputs, config)
            answer["operations"] = named(answer["operations"], plan[row.runtime])
        else:
            answer = _profiled(worker, inputs)
    except RuntimeFailure as error:  # of the profiler, which nobody ships
        return replace(found, note=f"profile not measured: {error}")
    if "not_measured" in answer:
        return replace(found, note=_note(row, answer["not_measured"]))
    return replace(found, profile=profile_of(answer))


def _probe(row: Candidate, inputs: str, config: ValidateConfig) -> dict[str, Any]:
    with Worker(row.label, timeout_seconds=config.timeout_seconds, threads=config.threads) as worker:
        worker.ask(
            "probe", runtime=row.runtime, probe=PROFILE, path=str(row.path), options={"threads": config.threads}
        )
        return _profiled(worker, inputs)


def _profiled(worker: Worker, inputs: str) -> dict[str, Any]:
    return worker.ask(
        "profile", inputs=inputs, runs=PROFILED_RUNS, seconds=PROFILED_SECONDS, discarded=WARM_UP_RUNS
    )


def profile_of(answer: dict[str, Any]) -> Profile:
    """A profile from the runner's answer: `operations` are [name, kind, microseconds per inference]."""
    total = math.fsum(mean_us for _, _, mean_us in answer["operations"])
    operations = [
        OperationTime(operation=name, kind=kind, mean_us=mean_us, share=mean_us / total if total else 0.0)
        for name, kind, mean_us in answer["operations"]
    ]
    return Profile(
        inferences=answer["inferences"], inference_us=answer["inference_us"],
        operations=tuple(sorted(operations, key=lambda operation: -operation.mean_us)),
    )


def named(operations: Sequence[Sequence[Any]], plan: dict[str, Any]) -> list[tuple[str, str, float]]:
    """LiteRT's profile with the file's names, where they are certain.

    A built-in kernel tells its place in the plan. XNNPACK only counts its own operations, of which it makes more than
    the file has (an addition and its clamp are two), but convolutions stay one each and in order.
    """
    tensors = {item["index"]: item["name"] for item in plan["tensors"]}
    planned = [item for item in plan["operations"] if item["kind"] != DELEGATE]
    names = [tensors[item["outputs"][0]] for item in planned]
    convolutions = [name for name, item in zip(names, planned, strict=True) if item["kind"] in CONVOLUTIONS]
    found = [index for index, (_, kind, _) in enumerate(operations) if kind.startswith(CONVOLUTION)]
    certain = dict(zip(found, convolutions, strict=True)) if len(found) == len(convolutions) else {}
    for index, (_, kind, _) in enumerate(operations):
        places = [place for place, item in enumerate(planned) if item["kind"] == kind]
        if len(places) == 1:
            certain[index] = names[places[0]]
    return [
        (certain.get(index, name), kind, mean_us) for index, (name, kind, mean_us) in enumerate(operations)
    ]


def _note(row: Candidate, reason: str) -> str:
    where = "" if row.target.name == CPU else f" on {row.target.name}"
    return f"{row.runtime}{where}: the time of single operations was not measured, since {reason}"
