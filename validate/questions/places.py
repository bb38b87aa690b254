"""The places that a file can be shipped to: a class of processors with ONNX Runtime, or another runtime."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.variants import PROCESSORS

BROWSER = "browser"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place, and the rows that are measured there."""

    words: str
    format: str  # of the file: "tflite", "onnx" or "ort"
    runtimes: tuple[str, ...]
    processor: str | None  # a key of PROCESSORS, which decides the variant; None: any
    float_inputs: bool = False  # its runtime takes no integer tensors
    target: str | None = None  # what to validate on, where no target is of this place; None: a machine of it
    reason: str


def _of_processor(name: str) -> Place:
    found = PROCESSORS[name]
    runtimes = ("onnxruntime-web",) if name == BROWSER else ("onnxruntime", "onnxruntime-perf-test")
    return Place(
        words=found.words, format="onnx", runtimes=runtimes, processor=name, target=found.target, reason=found.reason
    )


PLACES: dict[str, Place] = {
    "litert": Place(
        words="phone or board, LiteRT", format="tflite", runtimes=("litert", "benchmark-model"), processor=None,
        reason="LiteRT's int8 kernels are exact on every processor",
    ),
    **{name: _of_processor(name) for name in PROCESSORS},
    "browser-litert": Place(
        words="browser, LiteRT", format="tflite", runtimes=("litert-web",), processor=None, float_inputs=True,
        target=BROWSER, reason="LiteRT.js takes no int8 tensors, so inputs and outputs are float32",
    ),
    "reduced": Place(
        words="reduced build (.ort)", format="ort", runtimes=("onnxruntime", "onnxruntime-perf-test"), processor=None,
        reason="U8U8 for builds of ONNX Runtime with few operators",
    ),
}
