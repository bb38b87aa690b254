"""Do two integer files round alike, tensor by tensor?

Where two kernels differ they give the one or the other of two neighbours, as often up as down, so that the codes of a
tensor have the same mean in both files. A file that rounds down, or clips where the other does not, has another one:
half a step per operation, which disappears among the answers of a deep network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeship.errors import ExportError
from edgeship.graph import read_onnx, read_tflite
from edgeship.graph.matching import TensorPair, match
from export.runs import Job, run_files

# Rounding down is off by 1/2 LSB in the mean, LiteRT's AVERAGE_POOL_2D, which rounds halves away from zero, by at most
# 1/8 (2x2 pools, a quarter of whose means are halves).
MOST_LSB = 0.25
LEAST_VALUES = 512  # the mean of as many differences of 1 LSB at most is known to 1/22
SHIFT = 128  # a uint8 tensor holds q + 128 where an int8 tensor holds q


def check_unbiased(onnx: Job, tflite: Job) -> None:
    """Hold the tensors of an ONNX file against those of the TFLite file with the same integers.

    Raises:
        ExportError: naming the file and the first tensor whose mean differs.
    """
    graph = read_tflite(tflite.content, where=Path(tflite.name))
    pairs = [
        pair for pair in match(graph, read_onnx(onnx.content, where=Path(onnx.name))).pairs
        if pair.same_integers and pair.tflite.name in graph.producers
    ]
    if not pairs:
        return
    first, second = (
        _named(pairs, answers, of=side) for side, answers in zip(
            ("tflite", "onnx"), run_files([
                _keeping(tflite, [pair.tflite.name for pair in pairs]),
                _keeping(onnx, [pair.onnx.name for pair in pairs]),
            ]), strict=True,
        )
    )
    for pair, one, other in zip(pairs, first, second, strict=True):
        if one.size != other.size or one.size < LEAST_VALUES:
            continue
        shift = float(other.mean() - one.mean())
        if abs(shift) > MOST_LSB:
            raise ExportError(
                f"{onnx.name}: {pair.tflite.name} is {shift:+.2f} LSB away from {tflite.name} in the mean, expected "
                f"{MOST_LSB} at most: it rounds or clips otherwise"
            )


def _keeping(job: Job, tensors: Sequence[str]) -> Job:
    return Job(name=job.name, content=job.content, format=job.format, inputs=job.inputs, tensors=tuple(tensors))


def _named(pairs: Sequence[TensorPair], answers: Sequence[np.ndarray], *, of: str) -> list[np.ndarray]:
    """The tensors as int8 codes, whatever they are stored as."""
    return [
        values.astype(np.int16) - (SHIFT if getattr(pair, of).dtype == "uint8" else 0)
        for pair, values in zip(pairs, answers, strict=True)
    ]
