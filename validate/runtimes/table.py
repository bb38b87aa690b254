"""The runtimes: name -> which files it takes and which function opens one, in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Runtime(Protocol):
    """What an opener returns: a loaded model.

    Those that run integer artifacts also have `coverage() -> (Coverage, notes)`.
    """

    inputs: list[dict[str, Any]]  # {"name", "shape", "dtype", "scale", "zero_point"}; None: not known
    outputs: list[dict[str, Any]]
    batch: int  # images per `infer`

    def infer(self, images: np.ndarray) -> np.ndarray:
        """(batch, S, S, C) in the input's dtype -> (batch, classes) in the output's dtype."""


@dataclass(frozen=True, kw_only=True)
class RuntimeKind:
    """One entry of the table. `opener` is "package.module:function", called with (path, threads=...)."""

    takes: str  # "tflite", "onnx" or "keras"
    opener: str
    production: bool  # what users run, so its figures are gated; the others explain them
    # Processes that share the cores in the accuracy run. TensorFlow threads by itself and is large.
    one_process: bool = False


RUNTIMES: dict[str, RuntimeKind] = {
    "keras": RuntimeKind(
        takes="keras", opener="validate.runtimes.reference:open_keras", production=False, one_process=True
    ),
    "litert": RuntimeKind(
        takes="tflite", opener="validate.runtimes.litert:open_litert", production=True
    ),
    "litert-reference": RuntimeKind(
        takes="tflite", opener="validate.runtimes.litert:open_reference_kernels", production=False
    ),
    "onnxruntime": RuntimeKind(
        takes="onnx", opener="validate.runtimes.ort:open_onnxruntime", production=True
    ),
    "onnxruntime-unoptimized": RuntimeKind(
        takes="onnx", opener="validate.runtimes.ort:open_unoptimized", production=False
    ),
}

# Opened like runtimes, but only to look inside: see grid.py.
PROBES: dict[str, str] = {
    "litert-tensors": "validate.runtimes.litert:open_keeping_tensors",
    "onnx-layers": "validate.runtimes.layers:open_layers",
}


def fitting(artifact_format: str, wanted: tuple[str, ...]) -> Iterator[str]:
    """The runtimes of `wanted` that take this format, in the table's order."""
    return (name for name, kind in RUNTIMES.items() if name in wanted and kind.takes == artifact_format)
