"""`[validate]`: where files are run, and the gates."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.config.checks import at_least, one_of, positive
from edgeship.core.errors import ConfigError

RUNTIMES = (  # the names alone: the core imports no stage; a row each in validate/runner/table.py
    "keras", "litert", "litert-reference", "onnxruntime", "onnxruntime-unoptimized",
    "litert-web", "onnxruntime-web", "benchmark-model", "onnxruntime-perf-test",
)
TARGETS = ("cpu", "ssh", "adb", "arm64", "x86", "browser")  # what stands before the ":" of a target's name


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """`[validate]`: where the artifacts are run, and the gates they must pass."""

    runtimes: tuple[str, ...] = RUNTIMES
    # And "ssh://user@host[:port]", "adb[:SERIAL]", "arm64[:CPU]", "x86[:CPU]", "browser".
    targets: tuple[str, ...] = ("cpu",)
    ssh_command: str = "ssh"  # with options, for example "ssh -F my_config"
    device_python: str = "python3"  # on boards and phones: the Python that has numpy and a runtime's package
    device_folder: str | None = None  # where our folder is made there; None: the system's place for such
    benchmark_model: str | None = None  # a file here, or "device:/path" on the phone
    perf_test: str | None = None  # the same, of onnxruntime_perf_test
    # Processors that a latency measurement is bound to, for example [2, 3]; none: where the system puts it.
    cpus: tuple[int, ...] = ()
    threads: int = 1  # of the latency measurement; accuracy uses every core
    # Of arrays: a name of edgeship/core/metrics.py or "module:function"; None: nothing is scored. Images have top-1.
    metric: str | None = None
    images: int | None = None  # None: the whole test split
    max_accuracy_drop: float = 0.02  # against float Keras, as a share (0.02 = 2 points)
    # By how much a metric that is no share (an error, a score of the user's) may be worse, as a share of float Keras's.
    max_metric_change: float = 0.05
    min_coverage: float = 1.0  # share of executed operations that are integer (int8 artifacts)
    # Top-1 agreement of TFLite and ONNX files with the same integer weights; None: 98 %, or, of a network that answers
    # otherwise in integers than in float, as far as their rounding explains.
    min_agreement: float | None = None
    max_layer_lsb: int = 1  # ONNX against TFLite, layer by layer, given the same integers
    # How many times as fast as its float32 file a file must be, on a processor that it is shipped to; None: no gate.
    min_speedup: float | None = None
    # The largest difference of a TFLite and an ONNX file's outputs; None: as far as their rounding explains.
    max_format_lsb: int | None = None
    # Fresh processes that a row is timed in: the fewest that a speed-up's exact 95 % interval can be had from.
    latency_launches: int = 6
    latency_runs: int = 100  # inferences that are timed of a row, in all its launches together
    latency_seconds: float = 5.0  # stop timing a row after this long, in all its launches, whatever was measured
    # How long each row infers without a pause, for its speed on a warm device; None: it is not measured.
    sustained_seconds: float | None = None
    timeout_seconds: float = 600.0  # a runtime that answers nothing for this long has hung

    def __post_init__(self) -> None:
        for runtime in self.runtimes:
            one_of("validate.runtimes", runtime, RUNTIMES)
        for target in self.targets:
            one_of("validate.targets", target.partition(":")[0], TARGETS)
        at_least("validate.threads", self.threads, 1)
        for cpu in self.cpus:
            at_least("validate.cpus", cpu, 0)
        if self.images is not None:
            at_least("validate.images", self.images, 1)
        for key in ("max_accuracy_drop", "max_metric_change", "min_coverage", "min_agreement"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"validate.{key}: expected 0 to 1, found {value}")
        at_least("validate.max_layer_lsb", self.max_layer_lsb, 0)
        if self.max_format_lsb is not None:
            at_least("validate.max_format_lsb", self.max_format_lsb, 0)
        if self.min_speedup is not None:
            positive("validate.min_speedup", self.min_speedup)
        at_least("validate.latency_launches", self.latency_launches, 1)
        at_least("validate.latency_runs", self.latency_runs, 1)
        positive("validate.latency_seconds", self.latency_seconds)
        positive("validate.timeout_seconds", self.timeout_seconds)
        if self.sustained_seconds is not None:
            positive("validate.sustained_seconds", self.sustained_seconds)
