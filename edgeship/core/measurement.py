"""What was measured: frozen records with the unit in every field name.

A figure that was not measured is None, never 0 and never a guess.

Schema history of `report.json`:
    1   first version
    2   targets: `targets`, `Row.kind`, `Row.refused`, `Row.instructions`, `Parity.sibling_max_abs`; figures that a
        tool does not give (`Latency.median_ms` ...) may be null
    3   launches: `Latency.launches` (with the samples, before in `Latency.samples_ms`), `launch_sd`, `wall_per_cpu`,
        `median_cpu_ms`, `speedup`, `speedup_ci95`, `speedup_over`, `speedup_metric`; `Row.profile`; peak memory is of a
        run of its own
    4   layers kept in float: `quantization`, `Coverage.kept_float`
    5   `layer_errors`, of integer artifacts that fail
    6   `Grid.layers_total`, `Grid.not_compared`; `Parity.least_sqnr_db`, `least_agreement`; `Agreement.sqnr_db`,
        `least_sqnr_db`; pairs of files that compute in float; 5 is read too
    7   any task: `Row.score`, `Parity.agreement`, `not_judged`; of an `Agreement`, what compares classes may be null
    8   what report.html draws (evidence.py): `Row.classes`, `Row.changed`, `Row.deviations`, `float_classes`, `labels`,
        `networks`
    8   what to ship: `ship`; files that are made for other processors: `Row.for_others`; `Agreement.least_agreement`;
        `Coverage.weight_scales`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgeship.core.artifact import Quantization
from edgeship.core.evidence import ChangedAnswers, ClassCounts, Deviations, NetworkCost
from edgeship.core.ship import ShipLine
from edgeship.core.sustained import Sustained

REPORT_SCHEMA = 8
OLDER_SCHEMAS = (5, 6, 7)  # that are read too: later ones only add fields
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
    # Share of images whose largest output code several classes have, so that the first of them wins; integers only.
    tied_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric on the test examples, and the paired comparison with float Keras on the same examples.

    Where there are no targets, or a model whose answers are no classes, a row has no `Accuracy`. The intervals are had
    by drawing examples anew (bootstrap, percentiles).
    """

    metric: str
    examples: int
    value: float
    value_ci95: tuple[float, float]
    float_value: float | None
    delta: float | None  # value - float_value
    delta_ci95: tuple[float, float] | None
    higher_is_better: bool
    is_share: bool  # from 0 to 1


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
    # Of what computes in float, from its rounding (core/bounds.py): the least `sqnr_db` and agreement of a right file.
    least_sqnr_db: float | None = None
    least_agreement: float | None = None
    # Share of answers (classes, labels) that are float Keras's, over the test examples; None where answers are values.
    agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Operations the runtime really executed (its plan, not the file)."""

    integer: int
    total: int
    float_ops: tuple[str, ...]  # "Conv conv2_1" ... one entry per float operation that should be integer
    per_channel: int | None  # convolutions with a vector of weight scales
    weighted: int | None  # integer convolutions
    kept_float: tuple[str, ...] = ()  # float operations of layers kept in float, and what converts around them
    weight_scales: str = "per-channel"  # what the file promises of its kernels, or "per-tensor"

    @property
    def lost_scales(self) -> int:
        """Convolutions with one weight scale for all channels where the file promises one for each."""
        if self.weight_scales == "per-tensor" or self.per_channel is None:
            return 0
        return (self.weighted or 0) - self.per_channel

    @property
    def share(self) -> float:
        """Share of executed operations that are integer (1.0 for an empty plan would be a lie: 0.0)."""
        return self.integer / self.total if self.total else 0.0

    @property
    def promised(self) -> int:
        """Operations that should be integer: all but those of layers kept in float."""
        return self.total - len(self.kept_float)

    @property
    def promised_share(self) -> float:
        """Share of those that are."""
        return self.integer / self.promised if self.promised else 0.0


@dataclass(frozen=True, kw_only=True)
class LatencyLaunch:
    """One fresh process: one observation of how fast a row is, however many inferences it timed.

    Where the runtime's own tool keeps its samples to itself there are none, and the figures are the tool's.
    """

    load_ms: float | None
    first_ms: float | None
    median_ms: float | None
    mean_ms: float
    min_ms: float
    rounds_ms: tuple[tuple[float, ...], ...]  # the samples of each round, in which every row had its turn
    rounds_cpu_ms: tuple[float, ...]  # mean CPU time of an inference in each round; empty where it is not told


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One inference of batch 1, without preprocessing, over several launches. Raw samples are kept with each launch.

    A tool of the runtime's own may give the mean only: what it does not give is None, and there are no samples.
    `speedup` is how many times as fast as the reference this row is (2.0: half the time), estimated from one ratio per
    launch, since two processes of one file differ for as long as they live.
    """

    median_ms: float | None  # of all samples; so are the next four
    p90_ms: float | None
    p99_ms: float | None  # only from 1000 samples up
    mean_ms: float
    min_ms: float
    median_cpu_ms: float | None  # of the rounds; all threads of the process together
    launch_sd: float | None  # standard deviation of the launches' ln(median): 0.02 is 2 %
    wall_per_cpu: float | None  # with one thread above about 1.1: others had the core too
    warmup_runs: int
    threads: int
    load_ms: float | None  # median over launches
    first_ms: float | None  # the same
    speedup: float | None
    speedup_ci95: tuple[float, float] | None  # exact; from 6 launches up
    speedup_over: str | None  # the reference, "artifact / runtime"; None: this is it, or there is none
    speedup_metric: str | None  # "cpu_time" of one thread where it is told, or "wall_time"
    launches: tuple[LatencyLaunch, ...]

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """All samples, in the order of their launches."""
        return tuple(sample for launch in self.launches for samples in launch.rounds_ms for sample in samples)


@dataclass(frozen=True, kw_only=True)
class OperationTime:
    """One kernel that the runtime executed, as its own profiler tells."""

    operation: str  # the file's name for it, where known
    kind: str  # "QLinearConv", "Convolution (NHWC, QC8) IGEMM" ...
    mean_us: float  # per inference
    share: float  # of the time of all operations together


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of an inference goes. From a run of its own: a profiler makes everything a little slower.

    Both runtimes cut each operation's time off to whole microseconds, so that of a small model most is lost.
    """

    inferences: int  # that were profiled, after a few that were not
    inference_us: float  # the mean of them, of the whole inference
    operations: tuple[OperationTime, ...]  # the longest first

    @property
    def share_told(self) -> float:
        """The share of `inference_us` that the operations add up to."""
        return sum(item.mean_us for item in self.operations) / self.inference_us


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
    accuracy: Accuracy | None = None  # of a classifier that was asked about labelled examples
    score: Score | None = None  # of any other model, where there are targets
    parity: Parity | None = None
    coverage: Coverage | None = None
    latency: Latency | None = None
    peak_memory_bytes: int | None = None  # of a process that only loads it and infers a few times
    profile: Profile | None = None
    sustained: Sustained | None = None  # where it was asked for (validate.sustained_seconds)
    instructions: int | None = None  # executed per inference, one thread, on an emulated processor
    classes: ClassCounts | None = None  # of a classifier that was asked about labelled examples
    changed: ChangedAnswers | None = None  # of answers that are classes, against float Keras's
    deviations: Deviations | None = None  # of answers that are values, against float Keras's
    error: str | None = None
    refused: bool = False  # the error is the target's (not there, link cut ...), not the artifact's
    # The processors that its file is made for, in words, where this target has another one: the verdict does not
    # depend on the row. None: the file is made for this target.
    for_others: str | None = None


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
    layers_total: int | None = None  # with those that could not be run alone
    not_compared: tuple[str, ...] = ()  # tensors without a counterpart, and layers that were not run alone, and why


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One result of an integer artifact against the same result of the float artifact, over all images and elements."""

    layer: str  # the tensor's name, which is its layer's
    float_result: str  # what the float artifact calls it
    kind: str  # "CONV_2D", "Conv" ...
    sqnr_db: float | None  # None: equal (`max_lsb` is 0), or the float values are all 0
    max_lsb: float  # the largest distance, in steps of the tensor's scale
    saturated: float  # share of integers at an end of the range whose float value belongs elsewhere


@dataclass(frozen=True, kw_only=True)
class LayerErrors:
    """An integer artifact against the float artifact of the same format, layer by layer."""

    artifact: str
    reference: str | None  # the float artifact; None: the bundle has none
    images: int  # golden ones
    layers: tuple[LayerError, ...]  # in the order in which they run
    first_bad: str | None  # a name of `layers`; None: no layer alone is to blame
    not_compared: tuple[str, ...]  # results that the float artifact does not have
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two runtimes (or artifacts) on the same images, output integers against output integers."""

    first: str  # "artifact / runtime"
    second: str
    images: int
    top1_agreement: float | None  # None: their answers are values, not classes
    max_lsb: int | None
    differing_share: float | None
    accuracy_delta: float | None  # second - first
    accuracy_delta_ci95: tuple[float, float] | None
    # Of two formats, on the golden images: one as the signal of the other, and the least that rounding explains.
    sqnr_db: float | None = None
    least_sqnr_db: float | None = None
    # The same of their classes: the least share of same classes that their distance from float Keras explains.
    least_agreement: float | None = None


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
    quantization: dict[str, Quantization] = field(default_factory=dict)  # by scheme, from the manifest
    not_judged: tuple[str, ...] = ()  # what the verdict says nothing of, and why
    layer_errors: tuple[LayerErrors, ...] = ()  # of integer artifacts whose answers fail, or where it was asked for
    labels: tuple[str, ...] = ()  # of the classes; none: no classifier, or one whose classes have no names
    float_classes: ClassCounts | None = None  # of float Keras, here or else at the export
    networks: tuple[NetworkCost, ...] = ()  # of the files that are read, in the bundle's order
    ship: tuple[ShipLine, ...] = ()  # which file goes where
