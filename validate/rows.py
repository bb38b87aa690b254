"""The rows of a report before and while they are measured: which file on which runtime, and its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.artifact import Artifact, TensorSpec
from edgeship.config import ValidateConfig
from edgeship.measurement import Coverage
from edgeship.quantization import is_integer
from validate.bundle import Bundle
from validate.inputs import InputKind
from validate.runtimes.table import RUNTIMES, RuntimeKind, fitting

KERAS = "keras"
TARGET = "cpu"  # the only one there is


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row to be: a file and the runtime that is to run it. `artifact` is None for float Keras."""

    name: str
    runtime: str
    path: Path
    scheme: str
    artifact: Artifact | None
    size_bytes: int
    input_kind: InputKind
    options: dict[str, Any] = field(default_factory=dict)  # of the opener, besides `threads`

    @property
    def label(self) -> str:
        """How the row is named in reports."""
        return row_label(self.name, self.runtime)

    @property
    def kind(self) -> RuntimeKind:
        """The runtime's entry in the table."""
        return RUNTIMES[self.runtime]

    @property
    def is_integer(self) -> bool:
        """Whether the artifact computes with integers."""
        return self.artifact is not None and is_integer(self.artifact.outputs[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What one row answered. Outputs have the artifact's own dtype."""

    candidate: Candidate
    top1: np.ndarray  # int64 (n_test,)
    outputs: np.ndarray | None  # (n_test, classes) of integer artifacts; a float row is not compared by LSB
    golden_outputs: np.ndarray  # (n_golden, classes)
    output_spec: TensorSpec
    coverage: Coverage | None

    @property
    def label(self) -> str:
        """How the row is named in reports."""
        return self.candidate.label


def row_label(artifact: str, runtime: str) -> str:
    """How a row is named in reports: "artifact / runtime"."""
    return f"{artifact} / {runtime}"


def candidates(bundle: Bundle, config: ValidateConfig) -> list[Candidate]:
    """Every artifact on every configured runtime that takes its format; float Keras first."""
    reference = bundle.manifest.reference
    rows = []
    if KERAS in config.runtimes:
        rows.append(Candidate(
            name=reference.file,
            runtime=KERAS,
            path=bundle.reference_path,
            scheme="float32",
            artifact=None,
            size_bytes=bundle.reference_path.stat().st_size,
            input_kind=InputKind(dtype="float32", scale=None, zero_point=None),
            options={"custom_objects": list(reference.custom_objects)},
        ))
    for artifact in bundle.manifest.artifacts:
        rows += [
            Candidate(
                name=artifact.name,
                runtime=runtime,
                path=bundle.path_of(artifact),
                scheme=artifact.scheme,
                artifact=artifact,
                size_bytes=artifact.size_bytes,
                input_kind=InputKind.of(artifact.inputs[0]),
            )
            for runtime in fitting(artifact.format, config.runtimes)
        ]
    return rows


def grid_of(candidate: Candidate) -> str | None:
    """The name of the artifact whose grid this one is on; None for float models."""
    if candidate.artifact is None or not candidate.is_integer:
        return None
    return candidate.artifact.same_grid_as or candidate.artifact.name
