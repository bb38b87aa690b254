"""The quantization schemes by name: what each stores, what it needs, and in which formats it exists.

    float32              as trained
    float16              weights stored in half the bytes, computed in float32
    dynamic-int8         int8 weights; each activation is quantized when it is computed, on the range it then has
    weight-only-int8     int8 weights, computed in float32
    int16x8-ptq          int8 weights and int16 activations, ranges from calibration images
    int8-ptq             int8 weights and activations, ranges from calibration images: the smallest and largest value
    int8-ptq-percentile  the same, ranges that leave out the rarest values
    int8-ptq-mse         the same, ranges of the smallest squared error
    int8-ptq-best        the best that calibration images can find: ranges, equalization, biases and rounding
    int8-qat             the same integers, trained with fake quantization
    int8-mixed           int8, but for the layers that cost too much accuracy, which stay in float32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# What the conversion starts from: the lowered float model, or one with fake quantization inserted.
FLOAT, FAKE_QUANTIZED = "float", "fake-quantized"
NOTHING, CALIBRATION, TRAINING = "nothing", "calibration images", "training"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way to store and to compute a network."""

    name: str
    weights: str  # stored dtype of kernels: "float32", "float16" or "int8"
    activations: str  # dtype between the operations: "float32", "int8" or "int16"
    source: str = FLOAT
    needs: str = NOTHING
    ranges: str | None = None  # how ranges are chosen on the calibration images; None: as `quantize.calibration` says
    dynamic: bool = False  # activations are quantized when they are computed, not on a range known before
    integer: bool = False  # nothing but integers is computed, but for layers kept in float on purpose
    keeps_float: bool = True  # whether single layers can be left as they are (`quantize.keep_float`)
    impossible: Mapping[str, str] = field(default_factory=dict)  # format -> why the scheme has no such file

    @property
    def quantizes_weights(self) -> bool:
        """Whether kernels are stored as int8."""
        return self.weights == "int8"


def _int8(name: str, *, ranges: str | None = None, needs: str = CALIBRATION) -> Scheme:
    """A scheme whose ranges are in a fake-quantized Keras model, whatever they came from."""
    return Scheme(
        name=name, weights="int8", activations="int8", source=FAKE_QUANTIZED, needs=needs, ranges=ranges, integer=True
    )


_NO_INT16_IN_ONNX = (
    "ONNX Runtime has no integer kernels for int16 activations (QLinearConv and QGemm take 8-bit ones), so the file "
    "would compute in float"
)
_FOLDED_IN_ORT = (
    "ONNX Runtime's converter folds the small weights into float32 constants, so the file would be as large as "
    "float32.ort"
)

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme for scheme in (
        Scheme(name="float32", weights="float32", activations="float32"),
        Scheme(name="float16", weights="float16", activations="float32", impossible={"ort": _FOLDED_IN_ORT}),
        Scheme(name="dynamic-int8", weights="int8", activations="float32", dynamic=True),
        Scheme(name="weight-only-int8", weights="int8", activations="float32", impossible={"ort": _FOLDED_IN_ORT}),
        Scheme(
            name="int16x8-ptq", weights="int8", activations="int16", needs=CALIBRATION, integer=True, keeps_float=False,
            impossible={"onnx": _NO_INT16_IN_ONNX, "ort": _NO_INT16_IN_ONNX},
        ),
        _int8("int8-ptq", ranges="min-max"),
        _int8("int8-ptq-percentile", ranges="percentile"),
        _int8("int8-ptq-mse", ranges="mse"),
        _int8("int8-ptq-best"),
        _int8("int8-qat", needs=TRAINING),
        _int8("int8-mixed"),
    )
}
DEFAULT_SCHEMES = ("float32", "int8-ptq", "int8-qat")
# The layers that stay in float are found by measuring, until accuracy is within a bound.
BOUNDED_SCHEMES = ("int8-mixed",)
# What helps is found by trying it, on calibration images set apart.
SEARCHED_SCHEMES = ("int8-ptq-best",)
