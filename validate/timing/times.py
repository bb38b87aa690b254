"""How much one example costs on a target: milliseconds where they are real, instructions where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure, TargetFailure
from edgeship.core.progress import doing, say, track, up_to
from edgeship.validate.process.client import Worker
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.latency import Timed, measure_latencies, write_example
from edgeship.validate.timing.profile import measure_alone
from edgeship.validate.timing.sustained import sustained_of

COUNTED_RUNS = 3  # the first one packs weights and allocates; the median of the marks is a steady one
WARM_UP_RUNS = 1


def measure_times(
    candidates: Sequence[Candidate], golden_inputs: Sequence[np.ndarray], config: ValidateConfig, *, folder: Path
) -> dict[str, Timed]:
    """Measure the rows of one target, by label.

    Args:
        golden_inputs: one array per input of the model, of shape (examples, ...); the first example is taken.
    """
    if not candidates:
        return {}
    target = candidates[0].target
    if target.measures_time:
        with up_to(0.5):
            timed = measure_latencies(candidates, golden_inputs, config, folder=folder)
        # After the clock has stopped, since it disturbs.
        for candidate in track(candidates, label="memory and profiles", total=len(candidates)):
            if timed[candidate.label].error is None:
                alone = measure_alone(candidate, golden_inputs, config, folder=folder)
                timed[candidate.label] = replace(alone, latency=timed[candidate.label].latency)
        # At the very end: the device is warm afterwards.
        going = [candidate for candidate in candidates if timed[candidate.label].error is None]
        for label, found in sustained_of(going, golden_inputs, config, folder=folder).items():
            if isinstance(found, RuntimeFailure):
                timed[label] = replace(timed[label], error=found)
            else:
                timed[label] = replace(timed[label], sustained=found)
        return timed
    each = track(candidates, label="instructions", total=len(candidates))
    return {candidate.label: _counted(candidate, golden_inputs, config, folder) for candidate in each}


def _counted(
    candidate: Candidate, golden_inputs: Sequence[np.ndarray], config: ValidateConfig, folder: Path
) -> Timed:
    doing(f"{candidate.label}: counting instructions")
    try:
        return Timed(instructions=count_instructions(candidate, golden_inputs, config, folder=folder))
    except TargetFailure as error:  # newer versions of QEMU have another interface for plug-ins
        return Timed(note=f"instructions not measured: {error}")
    except RuntimeFailure as error:
        say(str(error))
        return Timed(error=error)


def count_instructions(
    candidate: Candidate, golden_inputs: Sequence[np.ndarray], config: ValidateConfig, *, folder: Path
) -> int:
    """Guest instructions of one inference on one thread, the median of a few. Raises RuntimeFailure."""
    return instructions_of(
        label=candidate.label, path=candidate.path, runtime=candidate.runtime, target=candidate.target,
        inputs=write_example(folder, "instructions", golden_inputs, candidate),
        timeout_seconds=config.timeout_seconds, folder=folder,
    )


def instructions_of(
    *, label: str, path: Path, runtime: str, target: Target, inputs: Sequence[Path], timeout_seconds: float,
    folder: Path,
) -> int:
    """Return the same for a file and one .npy file per input of it. Raises RuntimeFailure."""
    counts = folder / "instructions.txt"
    counts.unlink(missing_ok=True)
    command = target.counting_command(counts)
    if command is None:
        raise TargetFailure(f"{target.name}: executed instructions cannot be counted there")
    with Worker(label, timeout_seconds=timeout_seconds, target=target, command=command) as worker:
        worker.ask("load", runtime=runtime, path=str(path), options={"threads": 1})
        worker.ask("mark", inputs=[str(path) for path in inputs], runs=WARM_UP_RUNS + COUNTED_RUNS)
    return instructions_per_inference(counts, label=label)


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
