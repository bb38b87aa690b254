"""The configuration: one frozen dataclass per stage, read by `config_file`; every key has a default that works.

Each refuses values that are out of range, with the key, what was expected and what was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.core.artifact import CROP, FITS
from edgeship.core.errors import ConfigError
from edgeship.core.output_forms import AUTO, OUTPUT_FORMS
from edgeship.core.schemes import BOUNDED_SCHEMES, DEFAULT_SCHEMES, SCHEMES
from edgeship.core.variants import DEFAULT_VARIANTS, VARIANTS

DATASETS = ("digits", "fashion_mnist", "cifar10", "image_folder", "npz", "tfrecord", "arrays")
FORMATS = ("tflite", "onnx", "ort")
RUNTIMES = (  # the names alone: the core imports no stage; a row each in validate/runner/table.py
    "keras", "litert", "litert-reference", "onnxruntime", "onnxruntime-unoptimized",
    "litert-web", "onnxruntime-web", "benchmark-model", "onnxruntime-perf-test",
)
TARGETS = ("cpu", "ssh", "adb", "arm64", "x86", "browser")  # what stands before the ":" of a target's name
TFLITE_IO = ("int8", "float32")
WEIGHT_BITS = (8, 7)
FULL, PAIR_SAFE = "full", "pair-safe"
WEIGHT_RANGES = (FULL, PAIR_SAFE)
CALIBRATIONS = ("min-max", "batch-mean", "percentile", "mse")
AUGMENTATIONS = ("none", "shift", "flip")
STRATEGIES = ("none", "mirrored", "multi-worker")
PADDINGS = ("same", "symmetric")
TORCH_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
KERAS_WEIGHTS = (".h5", ".keras")
TORCH_EPSILON = 1e-5  # of torch.nn.BatchNorm2d


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`[data]`: which images, how they are split and preprocessed; or arrays, which are taken as they are."""

    name: str = "digits"
    # "module:function" -> the user's own arrays (edgeship/data/array_source.py); keys of images have no meaning then.
    factory: str | None = None
    path: str | None = None  # folder or .npz file; relative paths start at the config file's folder
    first_label: int = 0  # of tfrecord: the label of the first class; ImageNet's is 1
    image_size: int = 32
    channels: int = 1
    fit: str = CROP  # of a picture that is not square; "stretch" as Keras' loaders do
    antialias: bool = True  # of the resize; Keras' loaders and its layer Resizing do without
    mean: tuple[float, ...] = (0.0,)  # per channel, on the 0..1 scale
    std: tuple[float, ...] = (1.0,)
    train_images: int | None = None  # None: all that are left
    calibration_images: int = 512
    test_images: int | None = None  # None: the dataset's own test split (digits has none: 500)
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("data.name", self.name, DATASETS)
        if self.name == "arrays" and not self.path:
            raise ConfigError('data.path: expected an .npz file of arrays (data.name = "arrays"), found none')
        _one_of("data.channels", self.channels, (1, 3))
        _one_of("data.fit", self.fit, FITS)
        if self.first_label and self.name != "tfrecord":
            raise ConfigError(f"data.first_label: is for the tfrecord dataset, data.name is {self.name!r}; remove it")
        _at_least("data.image_size", self.image_size, 8)
        _at_least("data.calibration_images", self.calibration_images, 0)
        for key in ("train_images", "test_images"):
            if (count := getattr(self, key)) is not None:
                _at_least(f"data.{key}", count, 1)
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.channels):
                raise ConfigError(
                    f"data.{key}: expected 1 or {self.channels} numbers (data.channels), "
                    f"found {len(getattr(self, key))}"
                )
        # Written so that NaN is refused too.
        if not all(0 <= number <= 1 for number in self.mean):
            raise ConfigError(
                f"data.mean: expected numbers from 0 to 1, since pixels are divided by 255 first, found "
                f"{list(self.mean)}; divide a mean of 0..255 pixels by 255, and its std too"
            )
        if not all(0 < number < math.inf for number in self.std):
            raise ConfigError(f"data.std: expected numbers above 0, found {list(self.std)}")


    @property
    def is_arrays(self) -> bool:
        """Whether the data are arrays of the user's, and not images with labels."""
        return self.factory is not None or self.name == "arrays"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`[model]`: a variant of the home model, or the user's own float model."""

    name: str = "resnet34"
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    se_ratio: int = 0  # 0: no squeeze-and-excitation; 16 is SE-ResNet-34
    se_divisor: int = 1  # squeezed channels are rounded to a multiple of it, and at least it; timm's networks: 8
    padding: str = "same"  # of operations of stride 2; "symmetric" is PyTorch's
    classes: int | None = None  # None: as many as the dataset has
    batch_norm_momentum: float = 0.9  # 0.99 needs thousands of steps to forget its start
    batch_norm_epsilon: float = 1e-3
    weights: str | None = None  # a checkpoint for the home model: .safetensors, .pth, .pt, .bin, .h5 or .keras
    new_head: bool = False  # with weights: the classifier starts anew, for other classes
    factory: str | None = None  # "package.module:function" -> tf_keras.Model
    path: str | None = None  # a trained .keras or .h5 file, or a SavedModel folder of Keras 2
    trust_code: bool = False  # with path: the file may run code of its own (Lambda layers, modules that it names)
    custom_objects: tuple[str, ...] = ()  # modules that register the model's own layers

    def __post_init__(self) -> None:
        _one_of("model.name", self.name, ("resnet34",))
        _at_least("model.width", self.width, 1)
        _at_least("model.se_ratio", self.se_ratio, 0)
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise ConfigError(f"model.stage_sizes: expected numbers from 1, found {list(self.stage_sizes)}")
        if self.factory and self.path:
            raise ConfigError("model.factory and model.path are both set; keep the one that brings your model")
        if self.trust_code and not self.path:
            raise ConfigError("model.trust_code: is for model.path, which is not set; leave it out")
        _at_least("model.se_divisor", self.se_divisor, 1)
        _one_of("model.padding", self.padding, PADDINGS)
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights is None:
            if self.new_head:
                raise ConfigError("model.new_head: is for model.weights, which is not set; leave it out")
            return
        if self.factory or self.path:
            raise ConfigError(
                "model.weights: is for the home model, but model.factory or model.path brings another one; keep one"
            )
        _one_of("model.weights: the suffix", Path(self.weights).suffix, TORCH_WEIGHTS + KERAS_WEIGHTS)
        needed = {"padding": "symmetric", "batch_norm_epsilon": TORCH_EPSILON}
        for key, value in needed.items() if Path(self.weights).suffix in TORCH_WEIGHTS else ():
            if getattr(self, key) != value:
                raise ConfigError(
                    f"model.{key}: a torch checkpoint (model.weights) was trained with {value!r}, found "
                    f"{getattr(self, key)!r}; the network would compute something else: set {key} = {value!r}"
                )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`[train]`: the float training. `epochs = 0` takes the model as it is (`model.path` or `model.weights`)."""

    epochs: int = 15
    batch_size: int = 64
    # Of arrays: the name of a Keras loss; None: the usual one of validate.metric. Images are trained by cross entropy.
    loss: str | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_epochs: int = 1
    augmentation: str = "shift"
    # Images of the training split that choose the epoch whose weights are kept; 0: the last one's are.
    validation_images: int = 0
    # "mirrored": every accelerator of this machine; "multi-worker": the machines of TF_CONFIG. QAT is trained so too.
    strategy: str = "none"
    worker_timeout_seconds: float = 1800.0  # a worker that is silent for this long counts as lost
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 0)
        _at_least("train.batch_size", self.batch_size, 1)
        _positive("train.learning_rate", self.learning_rate)
        _one_of("train.augmentation", self.augmentation, AUGMENTATIONS)
        _at_least("train.validation_images", self.validation_images, 0)
        _one_of("train.strategy", self.strategy, STRATEGIES)
        _positive("train.worker_timeout_seconds", self.worker_timeout_seconds)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """`[quantize]`: which schemes, and the schedule of the quantization-aware training."""

    schemes: tuple[str, ...] = DEFAULT_SCHEMES
    keep_float: tuple[str, ...] = ()  # names of layers that are not quantized
    # Of the scheme int8-mixed: the largest drop of top-1 against float, as a share (0.01 = 1 point).
    max_accuracy_drop: float | None = None
    # 7: integers of +-63, whose products cannot saturate in u8s8 ONNX files on x86 processors without VNNI.
    weight_bits: int = 8
    # "pair-safe": 8 bits, on ranges as large as two neighbours of one sign together: their products cannot saturate.
    weight_range: str = FULL
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 5e-5
    calibration: str = "min-max"  # how the ranges that QAT starts from are chosen on the calibration images
    distillation: float = 1.0  # share of the target that is the float model's answer; the rest is the label
    ema_decay: float = 0.99
    freeze_ranges_at: float = 0.75  # share of the steps after which the integer ranges stop moving
    validation_images: int = 0  # as in [train]
    seed: int = 0

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            _one_of("quantize.schemes", scheme, tuple(SCHEMES))
        if not self.schemes:
            raise ConfigError(f"quantize.schemes: expected at least one of {', '.join(SCHEMES)}, found none")
        self._check_float_layers()
        _one_of("quantize.weight_bits", self.weight_bits, WEIGHT_BITS)
        _one_of("quantize.weight_range", self.weight_range, WEIGHT_RANGES)
        if self.weight_range == PAIR_SAFE and self.weight_bits != 8:
            raise ConfigError(
                f'quantize.weight_range: "{PAIR_SAFE}" is for 8 bits, found weight_bits = {self.weight_bits}, whose '
                "products cannot saturate either; keep one of the two"
            )
        _one_of("quantize.calibration", self.calibration, CALIBRATIONS)
        _at_least("quantize.epochs", self.epochs, 1)
        _at_least("quantize.batch_size", self.batch_size, 1)
        _at_least("quantize.validation_images", self.validation_images, 0)
        _positive("quantize.learning_rate", self.learning_rate)
        for key in ("distillation", "ema_decay", "freeze_ranges_at"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"quantize.{key}: expected 0 to 1, found {getattr(self, key)}")

    def _check_float_layers(self) -> None:
        for scheme in self.schemes:
            if self.keep_float and not SCHEMES[scheme].keeps_float:
                raise ConfigError(
                    f"quantize.keep_float: {scheme} quantizes the whole network, so no layer can be kept in float; "
                    f"leave {scheme} out of quantize.schemes, or keep_float empty"
                )
            if scheme in BOUNDED_SCHEMES and self.max_accuracy_drop is None:
                raise ConfigError(
                    f"quantize.max_accuracy_drop: {scheme} keeps layers in float until the drop of accuracy is within "
                    "this bound; expected a share such as 0.01, found none"
                )
        if self.max_accuracy_drop is not None and not 0 <= self.max_accuracy_drop <= 1:
            raise ConfigError(f"quantize.max_accuracy_drop: expected 0 to 1, found {self.max_accuracy_drop}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`[export]`: which files are written."""

    formats: tuple[str, ...] = ("tflite", "onnx")
    skip: tuple[str, ...] = ()  # pairs "scheme:format" that are not written, for example "int16x8-ptq:onnx"
    # Types of an int8 TFLite file's inputs and outputs; LiteRT for the web takes float ones only.
    tflite_io: tuple[str, ...] = ("int8",)
    onnx_variants: tuple[str, ...] = DEFAULT_VARIANTS  # activations x weights, see edgeship/core/variants.py
    golden_images: int = 32
    # What int8 files give behind a softmax: a form of edgeship/core/output_forms.py; "auto": by the calibration data.
    output: str = AUTO

    def __post_init__(self) -> None:
        _one_of("export.output", self.output, (AUTO, *OUTPUT_FORMS))
        for name in self.formats:
            _one_of("export.formats", name, FORMATS)
        for dtype in self.tflite_io:
            _one_of("export.tflite_io", dtype, TFLITE_IO)
        if "int8" not in self.tflite_io:
            raise ConfigError("export.tflite_io: expected int8 among them, which the float form is made from")
        if "ort" in self.formats and "onnx" not in self.formats:
            raise ConfigError("export.formats: ort is made from onnx; add onnx")
        if not self.formats:
            raise ConfigError(f"export.formats: expected at least one of {', '.join(FORMATS)}, found none")
        self._check_skip()
        for variant in self.onnx_variants:
            _one_of("export.onnx_variants", variant, VARIANTS)
        _at_least("export.golden_images", self.golden_images, 1)

    def _check_skip(self) -> None:
        for pair in self.skip:
            scheme, _, name = pair.partition(":")
            if scheme not in SCHEMES or name not in FORMATS:
                raise ConfigError(
                    f"export.skip: expected pairs of a scheme ({', '.join(SCHEMES)}) and a format "
                    f"({', '.join(FORMATS)}) such as 'int16x8-ptq:onnx'; found {pair!r}"
                )
            if name == "onnx" and "ort" in self.formats and f"{scheme}:ort" not in self.skip:
                raise ConfigError(f"export.skip: ort is made from onnx, so {pair!r} needs '{scheme}:ort' beside it")

    def formats_of(self, scheme: str) -> tuple[str, ...]:
        """The formats in which a scheme is written."""
        return tuple(name for name in self.formats if f"{scheme}:{name}" not in self.skip)


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
            _one_of("validate.runtimes", runtime, RUNTIMES)
        for target in self.targets:
            _one_of("validate.targets", target.partition(":")[0], TARGETS)
        _at_least("validate.threads", self.threads, 1)
        for cpu in self.cpus:
            _at_least("validate.cpus", cpu, 0)
        if self.images is not None:
            _at_least("validate.images", self.images, 1)
        for key in ("max_accuracy_drop", "max_metric_change", "min_coverage", "min_agreement"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"validate.{key}: expected 0 to 1, found {value}")
        _at_least("validate.max_layer_lsb", self.max_layer_lsb, 0)
        if self.max_format_lsb is not None:
            _at_least("validate.max_format_lsb", self.max_format_lsb, 0)
        if self.min_speedup is not None:
            _positive("validate.min_speedup", self.min_speedup)
        _at_least("validate.latency_launches", self.latency_launches, 1)
        _at_least("validate.latency_runs", self.latency_runs, 1)
        _positive("validate.latency_seconds", self.latency_seconds)
        _positive("validate.timeout_seconds", self.timeout_seconds)
        if self.sustained_seconds is not None:
            _positive("validate.sustained_seconds", self.sustained_seconds)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration file."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)

    def __post_init__(self) -> None:
        """Refuse a scheme in a format that has none of it, and a new classifier that nothing trains."""
        if self.model.new_head and not self.train.epochs:
            raise ConfigError(
                "train.epochs: 0 leaves the new classifier (model.new_head) untrained; set 1 or more, or leave "
                "model.new_head out"
            )
        for scheme in self.quantize.schemes:
            formats = self.export.formats_of(scheme)
            if not formats:
                raise ConfigError(
                    f"export.skip: leaves no format for {scheme}; leave it out of quantize.schemes instead"
                )
            for name in formats:
                if (reason := SCHEMES[scheme].impossible.get(name)) is not None:
                    raise ConfigError(
                        f"{scheme} as {name}: {reason}; add '{scheme}:{name}' to export.skip, or leave {scheme} out of "
                        "quantize.schemes"
                    )


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: expected one of {', '.join(map(str, allowed))}; found {value!r}")


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{key}: expected {least} or more, found {value}")


def _positive(key: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"{key}: expected a number above 0, found {value}")
