"""How much one image costs on a target: milliseconds where they are real, instructions where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeship.config import ValidateConfig
from edgeship.errors import RuntimeFailure, TargetFailure
from edgeship.progress import say
from validate.inputs import write_array
from validate.latency import Timed, measure_latencies
from validate.rows import Candidate
from validate.runtimes.client import Worker

COUNTED_RUNS = 3  # the first one packs weights and allocates; the median of the marks is a steady one
WARM_UP_RUNS = 1


def measure_times(
    candidates: Sequence[Candidate], image: np.ndarray, config: ValidateConfig, *, folder: Path
) -> dict[str, Timed]:
    """The rows of one target, by label. `image` is float32 (1, S, S, C), preprocessed."""
    if not candidates:
        return {}
    target = candidates[0].target
    if target.measures_time:
        groups = [candidates] if target.times_together else [[candidate] for candidate in candidates]
        timed: dict[str, Timed] = {}
        for group in groups:
            timed |= measure_latencies(group, image, config, folder=folder)
        return timed
    return {candidate.label: _counted(candidate, image, config, folder) for candidate in candidates}


def _counted(candidate: Candidate, image: np.ndarray, config: ValidateConfig, folder: Path) -> Timed:
    say(f"{candidate.label}: counting instructions")
    try:
        return Timed(instructions=count_instructions(candidate, image, config, folder=folder))
    except TargetFailure as error:  # newer versions of QEMU have another interface for plug-ins
        return Timed(note=f"instructions not measured: {error}")
    except RuntimeFailure as error:
        say(str(error))
        return Timed(error=error)


def count_instructions(
    candidate: Candidate, image: np.ndarray, config: ValidateConfig, *, folder: Path
) -> int:
    """Guest instructions of one inference on one thread, the median of a few. Raises RuntimeFailure."""
    counts = folder / "instructions.txt"
    counts.unlink(missing_ok=True)
    inputs = write_array(folder / "instructions.npy", image, candidate.input_kind)
    command = candidate.target.counting_command(counts)
    if command is None:
        raise TargetFailure(f"{candidate.target.name}: executed instructions cannot be counted there")
    with Worker(
        candidate.label, timeout_seconds=config.timeout_seconds, target=candidate.target, command=command
    ) as worker:
        worker.ask("load", runtime=candidate.runtime, path=str(candidate.path), options={"threads": 1})
        worker.ask("mark", inputs=str(inputs), runs=WARM_UP_RUNS + COUNTED_RUNS)
    return instructions_per_inference(counts, label=candidate.label)


def instructions_per_inference(counts: Path, *, label: str) -> int:
    """The median difference between the marks of a file of counts, without the warm-up. Raises RuntimeFailure."""
    expected = WARM_UP_RUNS + COUNTED_RUNS + 1
    try:
        marks = [int(line) for line in counts.read_text(encoding="ascii").split()]
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"{label}: the instruction counts could not be read ({error})") from error
    if len(marks) != expected:
        raise RuntimeFailure(
            f"{label}: expected {expected} instruction counts, found {len(marks)}; run `edgeship setup arm64` again"
        )
    return int(np.median(np.diff(marks)[WARM_UP_RUNS:]))
