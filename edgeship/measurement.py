"""What was measured: frozen records with the unit in every field name.

A figure that was not measured is None, never 0 and never a guess.

Schema history of `report.json`:
    1   first version
    2   targets: `targets`, `Row.kind`, `Row.refused`, `Row.instructions`, `Parity.sibling_max_abs`; figures that a
        tool does not give (`Latency.median_ms` ...) may be null
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REPORT_SCHEMA = 2
REPORT_FILE = "report.json"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 on the test images, and the paired comparison with float Keras on the same images.

    Accuracies, deltas and agreements are shares (0..1), not percent.
    """

    images: int
    top1: float
    top1_ci95: tuple[float, float]  # Wilson
    float_top1: float | None
    delta: float | None  # top1 - float_top1
    delta_ci95: tuple[float, float] | None  # paired
    mcnemar_p: float | None
    agreement: float | None  # share of images with float Keras's top-1


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the outputs are from the float model's, and from the sibling artifact's on the same grid."""

    sqnr_db: float | None  # of the outputs against float Keras, over the compared images
    max_abs_error: float | None  # against float Keras, in output units
    sibling: str | None  # "artifact / runtime" the LSB figures compare with
    max_lsb: int | None
    differing_share: float | None  # share of output integers that differ from the sibling's at all
    sibling_agreement: float | None  # top-1
    sibling_max_abs: float | None = None  # of the golden images' outputs, in output units


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Operations the runtime really executed (its plan, not the file)."""

    integer: int
    total: int
    float_ops: tuple[str, ...]  # "Conv conv2_1" ... one entry per float operation
    per_channel: int | None  # convolutions with a vector of weight scales
    weighted: int | None  # integer convolutions

    @property
    def share(self) -> float:
        """Share of executed operations that are integer (1.0 for an empty plan would be a lie: 0.0)."""
        return self.integer / self.total if self.total else 0.0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One inference of batch 1, without preprocessing. Raw samples are kept.

    A tool of the runtime's own may give the mean only: what it does not give is None, and there are no samples.
    """

    median_ms: float | None
    p90_ms: float | None
    p99_ms: float | None  # only from 1000 samples up
    mean_ms: float
    min_ms: float
    warmup_runs: int
    threads: int
    load_ms: float | None
    first_ms: float | None
    samples_ms: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One artifact on one runtime on one target. A row that could not run says why in `error`."""

    artifact: str
    scheme: str
    runtime: str
    target: str
    kind: str = "native"  # "native", "emulated" or "device"
    threads: int
    size_bytes: int | None
    accuracy: Accuracy | None = None
    parity: Parity | None = None
    coverage: Coverage | None = None
    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    instructions: int | None = None  # executed per inference, one thread, on an emulated processor
    error: str | None = None
    refused: bool = False  # the error is the target's (not there, link cut ...), not the artifact's


@dataclass(frozen=True, kw_only=True)
class TargetRecord:
    """What was found of a target besides this machine."""

    name: str
    kind: str  # "native", "emulated" or "device"
    machine: dict[str, Any] | None  # what it says it is
    state_before: dict[str, Any] | None  # temperature, clock, throttling ... before anything ran
    state_after: dict[str, Any] | None
    error: str | None  # why it could not be used


@dataclass(frozen=True, kw_only=True)
class Grid:
    """ONNX against TFLite of the same weights: are scales, zero points and integers equal, and do layers agree."""

    tflite: str
    onnx: str
    tensors_compared: int
    mismatches: tuple[str, ...]  # one sentence per tensor that differs
    layers_compared: int | None
    layer_max_lsb: int | None
    worst_layer: str | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two runtimes (or artifacts) on the same images, output integers against output integers."""

    first: str  # "artifact / runtime"
    second: str
    images: int
    top1_agreement: float
    max_lsb: int | None
    differing_share: float | None
    accuracy_delta: float  # second - first
    accuracy_delta_ci95: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """`report.json`, the source of every other form of the report."""

    schema: int
    created_by: str
    bundle: str
    created_at: str  # ISO 8601, UTC
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    grids: tuple[Grid, ...]
    agreements: tuple[Agreement, ...]
    verdict: str  # "pass", "fail", "inconclusive" or "refused"
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    targets: tuple[TargetRecord, ...] = ()
