"""The rows of a report before and while they are measured: which file on which runtime, and its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.artifact import Artifact, TensorSpec
from edgeship.core.config import RUNTIMES as ALL_RUNTIMES
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import RuntimeFailure
from edgeship.core.integers import is_integer
from edgeship.core.measurement import Coverage
from edgeship.core.parts import missing
from edgeship.core.schemes import SCHEMES
from edgeship.data.examples import Batch
from edgeship.validate.questions.changed import Changes
from edgeship.validate.runner.table import RUNTIMES, Runtime
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.inputs import InputKind
from edgeship.validate.targets.target import Target

KERAS = "keras"
CPU = "cpu"
LITERT_JS_DTYPES = ("float32", "int32")  # and uint8, but these are quantized tensors


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One row to be: a file, the runtime that is to run it, and where. `artifact` is None for float Keras."""

    name: str
    runtime: str
    path: Path
    scheme: str
    artifact: Artifact | None
    size_bytes: int
    input_kinds: tuple[InputKind, ...]  # one per input, in the file's order
    options: dict[str, Any] = field(default_factory=dict)  # of the opener, besides `threads`
    target: Target = field(default_factory=Target)
    reported: bool = True  # False: measured only to be compared with
    part_missing: str | None = None  # why it cannot run here and need not: a part of edgeship that is not installed

    @property
    def label(self) -> str:
        """How the row is named in reports."""
        return row_label(self.name, self.runtime, self.target.name)

    @property
    def baseline_label(self) -> str | None:
        """The row on this machine that this one's answers are held against; None for a row on this machine."""
        if self.target.name == CPU:
            return None
        return row_label(self.name, self.kind.baseline or self.runtime, CPU)

    @property
    def golden_only(self) -> bool:
        """Whether its inferences take too long for the test images."""
        return self.target.float_on_golden_only and not self.is_integer

    @property
    def is_integer(self) -> bool:
        """Whether it is to compute on nothing but integers, layers kept in float aside."""
        return SCHEMES[self.scheme].integer

    @property
    def kind(self) -> Runtime:
        """The runtime's entry in the table."""
        return RUNTIMES[self.runtime]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What all candidates answered, by label. A candidate is in exactly one of the two."""

    measured: dict[str, Measured]
    errors: dict[str, RuntimeFailure]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What one row answered: one array per output. Golden outputs have the artifact's own dtypes."""

    candidate: Candidate
    examples: int  # test examples that it was run on; 0: none
    decisions: np.ndarray | None  # int64 (examples, ...): classes, labels; None: values, or it was not run
    scored: np.ndarray | None  # the metric's rows (examples, ...); None where nothing is scored
    outputs: Batch | None  # (examples, ...) integers of `grid_specs`; a float row is not compared by LSB
    golden_outputs: Batch | None  # None: this runtime only tells times
    output_specs: tuple[TensorSpec, ...]
    grid_specs: tuple[TensorSpec, ...] | None
    coverage: Coverage | None
    changes: Changes | None = None  # of its answers against float Keras's

    @property
    def label(self) -> str:
        """How the row is named in reports."""
        return self.candidate.label


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatAnswers:
    """What float Keras answers to the test examples: classes or labels, and the metric's rows; None: not known."""

    decisions: np.ndarray | None
    scored: np.ndarray | None
    notes: tuple[str, ...] = ()


def row_label(artifact: str, runtime: str, target: str = CPU) -> str:
    """How a row is named in reports: "artifact / runtime", and " on target" where that is not this machine."""
    return f"{artifact} / {runtime}" + ("" if target == CPU else f" on {target}")


def candidates(bundle: Bundle, config: ValidateConfig, targets: Sequence[Target]) -> list[Candidate]:
    """Every artifact on every configured runtime of every target that takes its format; float Keras first.

    Where a row's baseline on this machine is not among them, it is added, not to be reported.
    """
    rows = [row for target in targets for row in _on_target(bundle, config, target)]
    labels = {row.label for row in rows}
    here = Target()
    missing = {
        row.baseline_label: _candidate(bundle, row.artifact, row.kind.baseline or row.runtime, here, reported=False)
        for row in rows if row.artifact is not None and row.baseline_label not in (None, *labels)
    }
    return [*missing.values(), *rows]


def _on_target(bundle: Bundle, config: ValidateConfig, target: Target) -> Iterator[Candidate]:
    runtimes = [name for name in RUNTIMES if name in target.runtimes and _wanted(name, config, target)]
    if KERAS in runtimes:
        yield _reference(bundle, config, target)
    for artifact in bundle.manifest.artifacts:
        for runtime in runtimes:
            if takes(runtime, artifact):
                yield _candidate(bundle, artifact, runtime, target)


def _wanted(runtime: str, config: ValidateConfig, target: Target) -> bool:
    """A target's own runtime is wanted where its counterpart on this machine is.

    Elsewhere only what users run, unless the runtimes were chosen: reference kernels take long on a device.
    """
    kind = RUNTIMES[runtime]
    asked = runtime in config.runtimes or kind.baseline in config.runtimes
    return asked and (kind.production or target.name == CPU or _chosen(config))


def _chosen(config: ValidateConfig) -> bool:
    """Whether the user named the runtimes, other than all of them."""
    return set(config.runtimes) != set(ALL_RUNTIMES)


def _reference(bundle: Bundle, config: ValidateConfig, target: Target) -> Candidate:
    reference = bundle.manifest.reference
    return Candidate(
        name=reference.file,
        runtime=KERAS,
        path=bundle.reference_path,
        scheme="float32",
        artifact=None,
        size_bytes=bundle.reference_path.stat().st_size,
        input_kinds=tuple(InputKind.of_float(spec) for item in bundle.manifest.artifacts[:1] for spec in item.inputs),
        options={"custom_objects": list(reference.custom_objects)},
        target=target,
        part_missing=None if _chosen(config) else missing(RUNTIMES[KERAS].modules),
    )


def _candidate(
    bundle: Bundle, artifact: Artifact, runtime: str, target: Target, *, reported: bool = True
) -> Candidate:
    options: dict[str, Any] = {}
    if RUNTIMES[runtime].tool:
        options = ends_for_tools(artifact.inputs, artifact.outputs)
    return Candidate(
        name=artifact.name,
        runtime=runtime,
        path=bundle.path_of(artifact),
        scheme=artifact.scheme,
        artifact=artifact,
        size_bytes=artifact.size_bytes,
        input_kinds=tuple(map(InputKind.of, artifact.inputs)),
        options=options,
        target=target,
        reported=reported,
    )


def ends_for_tools(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return what a maker's tool is told of a file's inputs and outputs."""
    return {
        key: [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs]
        for key, specs in (("inputs", inputs), ("outputs", outputs))
    }


def takes(runtime: str, artifact: Artifact) -> bool:
    """Whether the runtime can open the artifact's format and feed its inputs."""
    kind = RUNTIMES[runtime]
    if artifact.format not in kind.takes:
        return False
    ends = (*artifact.inputs, *artifact.outputs)
    return not kind.float_tensors_only or all(spec.dtype in LITERT_JS_DTYPES for spec in ends)


def grid_of(candidate: Candidate) -> str | None:
    """The name of the artifact whose grid this one is on; None for float models."""
    artifact = candidate.artifact
    if artifact is None:
        return None
    return artifact.same_grid_as or (artifact.name if candidate.is_integer else None)


def grid_specs_of(candidate: Candidate, bundle: Bundle) -> tuple[TensorSpec, ...] | None:
    """The outputs' scales and zero points; of an integer file with float outputs, those of its sibling, or None."""
    name = grid_of(candidate)
    if candidate.artifact is None or name is None:
        return None
    own = candidate.artifact.outputs
    if all(map(is_integer, own)):
        return own
    specs = next(item.outputs for item in bundle.manifest.artifacts if item.name == name)
    return specs if all(map(is_integer, specs)) else None
