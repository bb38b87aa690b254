"""`[quantize]`: the schemes, and how their integers are found."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.config.checks import at_least, one_of, positive
from edgeship.core.errors import ConfigError
from edgeship.core.schemes import BOUNDED_SCHEMES, DEFAULT_SCHEMES, FAKE_QUANTIZED, SCHEMES

WEIGHT_BITS = (8, 7)
FULL, PAIR_SAFE = "full", "pair-safe"
WEIGHT_RANGES = (FULL, PAIR_SAFE)
PER_CHANNEL, PER_TENSOR = "per-channel", "per-tensor"
WEIGHT_SCALES = (PER_CHANNEL, PER_TENSOR)
CALIBRATIONS = ("min-max", "batch-mean", "percentile", "mse")


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
    # "per-tensor": one scale for a whole kernel, for devices that know no other or are slower with one per channel.
    weight_scales: str = PER_CHANNEL
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
            one_of("quantize.schemes", scheme, tuple(SCHEMES))
        if not self.schemes:
            raise ConfigError(f"quantize.schemes: expected at least one of {', '.join(SCHEMES)}, found none")
        self._check_float_layers()
        self._check_weights()
        one_of("quantize.calibration", self.calibration, CALIBRATIONS)
        at_least("quantize.epochs", self.epochs, 1)
        at_least("quantize.batch_size", self.batch_size, 1)
        at_least("quantize.validation_images", self.validation_images, 0)
        positive("quantize.learning_rate", self.learning_rate)
        for key in ("distillation", "ema_decay", "freeze_ranges_at"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"quantize.{key}: expected 0 to 1, found {getattr(self, key)}")

    def _check_weights(self) -> None:
        one_of("quantize.weight_bits", self.weight_bits, WEIGHT_BITS)
        one_of("quantize.weight_range", self.weight_range, WEIGHT_RANGES)
        one_of("quantize.weight_scales", self.weight_scales, WEIGHT_SCALES)
        if self.weight_range == PAIR_SAFE and self.weight_bits != 8:
            raise ConfigError(
                f'quantize.weight_range: "{PAIR_SAFE}" is for 8 bits, found weight_bits = {self.weight_bits}, whose '
                "products cannot saturate either; keep one of the two"
            )
        for scheme in self.schemes if self.weight_scales == PER_TENSOR else ():
            if SCHEMES[scheme].quantizes_weights and SCHEMES[scheme].source != FAKE_QUANTIZED:
                raise ConfigError(
                    f'quantize.weight_scales: {scheme} has a scale per output channel, found "{PER_TENSOR}"; leave '
                    f"{scheme} out of quantize.schemes, or set \"{PER_CHANNEL}\""
                )

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
