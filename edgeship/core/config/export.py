"""`[export]`: the files."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.config.checks import at_least, one_of
from edgeship.core.errors import ConfigError
from edgeship.core.output_forms import AUTO, OUTPUT_FORMS
from edgeship.core.schemes import SCHEMES
from edgeship.core.variants import DEFAULT_VARIANTS, VARIANTS

FORMATS = ("tflite", "onnx", "ort")
TFLITE_IO = ("int8", "float32")


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
        one_of("export.output", self.output, (AUTO, *OUTPUT_FORMS))
        for name in self.formats:
            one_of("export.formats", name, FORMATS)
        for dtype in self.tflite_io:
            one_of("export.tflite_io", dtype, TFLITE_IO)
        if "int8" not in self.tflite_io:
            raise ConfigError("export.tflite_io: expected int8 among them, which the float form is made from")
        if "ort" in self.formats and "onnx" not in self.formats:
            raise ConfigError("export.formats: ort is made from onnx; add onnx")
        if not self.formats:
            raise ConfigError(f"export.formats: expected at least one of {', '.join(FORMATS)}, found none")
        self._check_skip()
        for variant in self.onnx_variants:
            one_of("export.onnx_variants", variant, VARIANTS)
        at_least("export.golden_images", self.golden_images, 1)

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
