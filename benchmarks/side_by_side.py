"""Times of many files of one model in one runtime, as ratios to one of them: every launch runs them all, in turns.

Each launch starts a fresh process per file on one core, and the files take turns in random order within seconds;
a launch gives one ratio per file. What is told is the center of these ratios (Hodges and Lehmann) with a 95 % interval
(signed rank). CPU time of one thread, batch 1.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeship.core.integers import quantize
from edgeship.export.proof.golden import specs_of
from edgeship.validate.compare.arms import save_example
from edgeship.validate.compare.pilot import make_plan
from edgeship.validate.targets.target import Target
from edgeship.validate.timing.launches import Bench, Contender, launch, round_times
from edgeship.validate.timing.ratios import log_ratio
from edgeship.validate.timing.signed_rank import hodges_lehmann, lower_bound, upper_bound

RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime"}
TIMEOUT_SECONDS = 600.0
TAIL = 0.025  # on either side, of an interval of 95 %


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The time of a file over that of the first one, with a 95 % interval, and its milliseconds (median)."""

    center: float
    low: float
    high: float
    milliseconds: float

    def __str__(self) -> str:
        return f"{self.center:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratios(
    files: Mapping[str, bytes], *, format: str, example: np.ndarray, launches: int, seed: int = 0
) -> dict[str, Ratio]:
    """Time files of one model in LiteRT ("tflite") or ONNX Runtime ("onnx").

    Args:
        files: name -> content; the first is what the others are divided by.
        example: one input of the float model with a batch axis of 1, float32; integer inputs get its codes.
        launches: 6 at the least, since fewer have no 95 % interval.
    """
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            name: _contender(Path(folder), number, name, content, format=format, example=example)
            for number, (name, content) in enumerate(files.items())
        }
        bench = Bench(
            target=Target(), runtime=RUNTIMES[format], threads=1, cpus=tuple(sorted(os.sched_getaffinity(0))),
            timeout_seconds=TIMEOUT_SECONDS,
        )
        order = random.Random(seed)
        plan = make_plan(contenders, bench, order=order)
        observed = [
            launch(contenders, bench, rounds=plan.rounds, inferences=plan.inferences, order=order).sides
            for _ in range(launches)
        ]
    base = next(iter(files))
    return {name: _ratio(observed, name, base, plan.metric) for name in files}


def _contender(
    folder: Path, number: int, name: str, content: bytes, *, format: str, example: np.ndarray
) -> Contender:
    path = folder / f"{number}.{format}"
    path.write_bytes(content)
    (spec,), _ = specs_of(content, format=format)
    inputs = save_example(folder, str(number), (quantize(example, spec),))
    return Contender(label=name, path=str(path), inputs=tuple(map(str, inputs)))


def _ratio(observed: list, name: str, base: str, metric: str) -> Ratio:
    logs = [
        log_ratio(round_times(sides[name], metric), round_times(sides[base], metric)) for sides in observed
    ]
    times = [np.mean(round_times(sides[name], metric)) for sides in observed]
    center, low, high = (
        float(np.exp(value))
        for value in (hodges_lehmann(logs), lower_bound(logs, level=TAIL), upper_bound(logs, level=TAIL))
    )
    return Ratio(center=center, low=low, high=high, milliseconds=float(np.median(times)) / 1e6)
