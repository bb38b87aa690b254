"""Does a row keep its speed? One process that infers without a pause, in windows of about ten seconds.

A phone or a board without a fan computes at full clock until it is warm, and slower from then on. The figures of
latency.py are of the first seconds; these are of the minutes that follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.progress import doing, say, track
from edgeship.core.sustained import Sustained, Window
from edgeship.validate.subject.rows import Candidate
from edgeship.validate.timing.latency import load_row, start_row, write_example
from edgeship.validate.timing.launches import WARMUP_RUNS

WINDOW_SECONDS = 10.0


def can_sustain(row: Candidate) -> bool:
    """Whether it is asked of a row: one that users run, on a processor that is real, in a process of the runner."""
    return row.target.measures_time and row.kind.production and row.kind.by_runner


def measure_sustained(
    row: Candidate, golden_inputs: Sequence[np.ndarray], config: ValidateConfig, *, folder: Path
) -> Sustained:
    """Infer for `config.sustained_seconds`, window after window. Raises RuntimeFailure.

    Args:
        golden_inputs: one array per input of the model, of shape (examples, ...); the first example is taken.
    """
    assert config.sustained_seconds is not None
    inputs = write_example(folder, "sustained", golden_inputs, row)
    with ExitStack() as stack:
        worker = start_row(row, config, stack)
        worker.answer()
        load_row(row, worker, config)
        there = [row.target.put(path) for path in inputs]
        windows: list[Window] = []
        lengths = window_lengths(config.sustained_seconds)
        for seconds in track(lengths, label=f"sustained, {row.label}", total=len(lengths)):
            answer = worker.ask("sustain", inputs=there, seconds=seconds, discarded=0 if windows else WARMUP_RUNS)
            windows.append(Window(
                seconds=answer["seconds"], inferences=answer["inferences"], median_ms=answer["median_ms"],
                clock_mhz=answer["clock_mhz"], temperature_c=answer["temperature_c"],
            ))
    return Sustained(windows=tuple(windows))


def window_lengths(seconds: float) -> list[float]:
    """Return equal windows of about ten seconds that add up to `seconds`; at least two, a first and a last one."""
    count = max(2, math.floor(seconds / WINDOW_SECONDS))
    return [seconds / count] * count


def sustained_of(
    rows: Sequence[Candidate], golden_inputs: Sequence[np.ndarray], config: ValidateConfig, *, folder: Path
) -> dict[str, Sustained | RuntimeFailure]:
    """Measure the rows of one target that can be, one after the other, by label; none where it was not asked for."""
    going = [row for row in rows if can_sustain(row)]
    if config.sustained_seconds is None or not going:
        return {}
    minutes = len(going) * config.sustained_seconds / 60
    doing(f"sustained speed on {going[0].target.name}: {len(going)} rows, {minutes:.1f} minutes in all")
    found: dict[str, Sustained | RuntimeFailure] = {}
    for row in going:
        try:
            found[row.label] = measure_sustained(row, golden_inputs, config, folder=folder)
        except RuntimeFailure as error:
            say(str(error))
            found[row.label] = error
    return found
