"""The runtimes: name -> which files it takes, whether users run it, and who opens a file."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.core.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class RuntimeKind:
    """One entry of the table."""

    takes: tuple[str, ...]  # formats: "tflite", "onnx", "ort", "keras"
    production: bool  # what users run, so its figures are gated; the others explain them
    # Processes that share the cores in the accuracy run. TensorFlow threads by itself and is large.
    one_process: bool = False
    float_tensors_only: bool = False  # takes no int8 inputs and outputs
    # False: not a process of the runner, so it cannot be bound to processors or asked which operations ran as integers.
    by_runner: bool = True
    # A maker's command line tool: it is told what the input and output are, loads the model anew for each launch, and
    # gives outputs in some builds only.
    tool: bool = False
    distribution: str = ""  # the package whose version decides what it computes; "": not one that is pinned here
    # The runtime on this machine whose answers these kernels' answers are held against.
    baseline: str | None = None


RUNTIMES: dict[str, RuntimeKind] = {
    "keras": RuntimeKind(takes=("keras",), production=False, one_process=True),
    "litert": RuntimeKind(takes=("tflite",), production=True, distribution="ai-edge-litert"),
    "litert-reference": RuntimeKind(takes=("tflite",), production=False),
    "onnxruntime": RuntimeKind(takes=("onnx", "ort"), production=True, distribution="onnxruntime"),
    "onnxruntime-unoptimized": RuntimeKind(takes=("onnx",), production=False),
    "litert-web": RuntimeKind(
        takes=("tflite",), production=True, one_process=True, float_tensors_only=True, by_runner=False,
        baseline="litert",
    ),
    "onnxruntime-web": RuntimeKind(
        takes=("onnx", "ort"), production=True, one_process=True, by_runner=False,
        baseline="onnxruntime",
    ),
    "benchmark-model": RuntimeKind(
        takes=("tflite",), production=True, one_process=True, by_runner=False, tool=True, baseline="litert",
    ),
    "onnxruntime-perf-test": RuntimeKind(
        takes=("onnx", "ort"), production=True, one_process=True, by_runner=False, tool=True, baseline="onnxruntime",
    ),
}

# Those that only a development machine has, and the probes, opened like runtimes but only to look inside (see
# grid.py and profile.py): "package.module:function", called in a child process with (path, threads=...). The others
# are opened by the runner.
LOCAL_OPENERS: dict[str, str] = {
    "keras": "edgeship.validate.probes.reference:open_keras",
    "litert-tensors": "edgeship.validate.probes.litert:open_keeping_tensors",
    "litert-profile": "edgeship.validate.probes.litert_profile:open_profile",
    "onnx-tensors": "edgeship.validate.probes.ort_tensors:open_keeping_results",
    "onnx-layers": "edgeship.validate.probes.layers:open_layers",
}


def takes(runtime: str, artifact: Artifact) -> bool:
    """Whether the runtime can open the artifact's format and feed its inputs."""
    kind = RUNTIMES[runtime]
    if artifact.format not in kind.takes:
        return False
    return not kind.float_tensors_only or artifact.inputs[0].dtype == "float32"
