"""The configuration: one frozen dataclass per stage, read from TOML; every key has a default that works.

Unknown keys are refused with the known ones named; nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import ConfigError

DATASETS = ("digits", "fashion_mnist", "cifar10", "image_folder", "npz")
SCHEMES = ("float32", "int8-ptq", "int8-qat")
FORMATS = ("tflite", "onnx", "ort")
# activations x weights of the ONNX file; u8u8 is right on every CPU under default session options.
ONNX_VARIANTS = ("u8u8", "u8s8", "s8s8")
RUNTIMES = (
    "keras", "litert", "litert-reference", "onnxruntime", "onnxruntime-unoptimized",
    "litert-web", "onnxruntime-web", "benchmark-model", "onnxruntime-perf-test",
)
TARGETS = ("cpu", "ssh", "adb", "arm64", "browser")  # what stands before the ":" of a target's name
TFLITE_IO = ("int8", "float32")
AUGMENTATIONS = ("none", "shift", "flip")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`[data]`: which images, how they are split, and how they are preprocessed."""

    name: str = "digits"
    path: str | None = None  # folder or .npz file; relative paths start at the config file's folder
    image_size: int = 32
    channels: int = 1
    mean: tuple[float, ...] = (0.0,)  # per channel, on the 0..1 scale
    std: tuple[float, ...] = (1.0,)
    train_images: int | None = None  # None: all that are left
    calibration_images: int = 200
    test_images: int | None = None  # None: the dataset's own test split (digits has none: 500)
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("data.name", self.name, DATASETS)
        _one_of("data.channels", self.channels, (1, 3))
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
        if min(self.std) <= 0:
            raise ConfigError(f"data.std: expected numbers above 0, found {list(self.std)}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`[model]`: a variant of the home model, or the user's own float model."""

    name: str = "resnet34"
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    se_ratio: int = 0  # 0: no squeeze-and-excitation; 16 is SE-ResNet-34
    classes: int | None = None  # None: as many as the dataset has
    batch_norm_momentum: float = 0.9  # 0.99 needs thousands of steps to forget its start
    batch_norm_epsilon: float = 1e-3
    factory: str | None = None  # "package.module:function" -> tf_keras.Model
    path: str | None = None  # a trained .keras file
    custom_objects: tuple[str, ...] = ()  # modules that register the model's own layers

    def __post_init__(self) -> None:
        _one_of("model.name", self.name, ("resnet34",))
        _at_least("model.width", self.width, 1)
        _at_least("model.se_ratio", self.se_ratio, 0)
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise ConfigError(f"model.stage_sizes: expected numbers from 1, found {list(self.stage_sizes)}")
        if self.factory and self.path:
            raise ConfigError("model.factory and model.path are both set; keep the one that brings your model")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`[train]`: the float training. `epochs = 0` takes the model as it is (with `model.path`)."""

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_epochs: int = 1
    augmentation: str = "shift"
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 0)
        _at_least("train.batch_size", self.batch_size, 1)
        _positive("train.learning_rate", self.learning_rate)
        _one_of("train.augmentation", self.augmentation, AUGMENTATIONS)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """`[quantize]`: which schemes, and the schedule of the quantization-aware training."""

    schemes: tuple[str, ...] = SCHEMES
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 5e-5
    distillation: float = 1.0  # share of the target that is the float model's answer; the rest is the label
    ema_decay: float = 0.99
    freeze_batch_norm_at: float = 0.0  # share of the steps after which batch norm stops moving; 0: it never does
    freeze_ranges_at: float = 0.75  # share of the steps after which the integer ranges stop moving
    seed: int = 0

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            _one_of("quantize.schemes", scheme, SCHEMES)
        if not self.schemes:
            raise ConfigError(f"quantize.schemes: expected at least one of {', '.join(SCHEMES)}, found none")
        _at_least("quantize.epochs", self.epochs, 1)
        _at_least("quantize.batch_size", self.batch_size, 1)
        _positive("quantize.learning_rate", self.learning_rate)
        for key in ("distillation", "ema_decay", "freeze_batch_norm_at", "freeze_ranges_at"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"quantize.{key}: expected 0 to 1, found {getattr(self, key)}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`[export]`: which files are written."""

    formats: tuple[str, ...] = ("tflite", "onnx")
    # Types of an int8 TFLite file's inputs and outputs; LiteRT for the web takes float ones only.
    tflite_io: tuple[str, ...] = ("int8",)
    onnx_variants: tuple[str, ...] = ("u8u8",)
    golden_images: int = 32

    def __post_init__(self) -> None:
        for name in self.formats:
            _one_of("export.formats", name, FORMATS)
        for dtype in self.tflite_io:
            _one_of("export.tflite_io", dtype, TFLITE_IO)
        if "int8" not in self.tflite_io:
            raise ConfigError("export.tflite_io: expected int8 among them, which the float form is made from")
        if "ort" in self.formats and "onnx" not in self.formats:
            raise ConfigError("export.formats: ort is made from onnx; add onnx")
        for variant in self.onnx_variants:
            _one_of("export.onnx_variants", variant, ONNX_VARIANTS)
        _at_least("export.golden_images", self.golden_images, 1)


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """`[validate]`: where the artifacts are run, and the gates they must pass."""

    runtimes: tuple[str, ...] = RUNTIMES
    targets: tuple[str, ...] = ("cpu",)  # and "ssh://user@host[:port]", "adb[:SERIAL]", "arm64[:CPU]", "browser"
    ssh_command: str = "ssh"  # with options, for example "ssh -F my_config"
    device_python: str = "python3"  # on boards and phones: the Python that has numpy and a runtime's package
    device_folder: str | None = None  # where our folder is made there; None: the system's place for such
    benchmark_model: str | None = None  # a file here, or "device:/path" on the phone
    perf_test: str | None = None  # the same, of onnxruntime_perf_test
    # Processors that a latency measurement is bound to, for example [2, 3]; none: where the system puts it.
    cpus: tuple[int, ...] = ()
    threads: int = 1  # of the latency measurement; accuracy uses every core
    images: int | None = None  # None: the whole test split
    max_accuracy_drop: float = 0.02  # against float Keras, as a share (0.02 = 2 points)
    min_coverage: float = 1.0  # share of executed operations that are integer (int8 artifacts)
    min_agreement: float = 0.98  # top-1 agreement of TFLite and ONNX files with the same integer weights
    max_layer_lsb: int = 1  # ONNX against TFLite, layer by layer, given the same integers
    # Fresh processes that a row is timed in: the fewest that a speed-up's exact 95 % interval can be had from.
    latency_launches: int = 6
    latency_runs: int = 100  # inferences that are timed of a row, in all its launches together
    latency_seconds: float = 5.0  # stop timing a row after this long, in all its launches, whatever was measured
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
        for key in ("max_accuracy_drop", "min_coverage", "min_agreement"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"validate.{key}: expected 0 to 1, found {getattr(self, key)}")
        _at_least("validate.max_layer_lsb", self.max_layer_lsb, 0)
        _at_least("validate.latency_launches", self.latency_launches, 1)
        _at_least("validate.latency_runs", self.latency_runs, 1)
        _positive("validate.latency_seconds", self.latency_seconds)
        _positive("validate.timeout_seconds", self.timeout_seconds)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration file."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)


def load_config(path: Path) -> Config:
    """Read a TOML configuration. Relative `data.path` and `model.path` start at the file's own folder.

    Raises:
        ConfigError: no such file, not TOML, an unknown section or key, a value of the wrong type or range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such configuration file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: could not be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        config = config_from_dict(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    folder = path.resolve().parent
    return dataclasses.replace(
        config, data=_resolve_path(config.data, folder), model=_resolve_path(config.model, folder)
    )


def config_from_dict(document: dict[str, Any]) -> Config:
    """Turn parsed TOML (or a manifest's copy of it) into a Config. Raises ConfigError."""
    sections = {item.name: item.default_factory for item in dataclasses.fields(Config)}
    _known("section", document, sections)
    built = {}
    for name, value in document.items():
        if not isinstance(value, dict):
            raise ConfigError(f"[{name}]: expected a section with keys, found {value!r}")
        built[name] = section_from_dict(sections[name], name, value)
    return Config(**built)


def section_from_dict(section: Any, name: str, values: dict[str, Any]) -> Any:
    """Build one section's dataclass from `values`. Raises ConfigError."""
    hints = typing.get_type_hints(section)
    _known(f"key in [{name}]", values, hints)
    return section(**{key: _typed(f"{name}.{key}", value, hints[key]) for key, value in values.items()})


def config_to_dict(section: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values (tuples become lists)."""
    return {
        key: list(value) if isinstance(value, tuple) else config_to_dict(value)
        if dataclasses.is_dataclass(value) else value
        for key, value in ((item.name, getattr(section, item.name)) for item in dataclasses.fields(section))
    }


def _resolve_path(section: Any, folder: Path) -> Any:
    return section if section.path is None else dataclasses.replace(section, path=str(folder / section.path))


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Check a TOML value against a field's type; an integer is accepted where a float is expected."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in hint.__args__ if option is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: expected a list, found {value!r}")
        return tuple(_typed(key, item, typing.get_args(hint)[0]) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{key}: expected {hint.__name__}, found {value!r}")
    return value


def _known(what: str, given: dict[str, Any], known: Any) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown {what}: {name!r}; known are {', '.join(known)}")


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}: expected one of {', '.join(map(str, allowed))}; found {value!r}")


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{key}: expected {least} or more, found {value}")


def _positive(key: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"{key}: expected a number above 0, found {value}")
