"""ONNX Runtime on the CPU. Imported in a worker process only."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeship.measurement import Coverage
from validate.coverage import coverage_of_profile

DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8",
}
# Errors only: warnings would fill the lines of standard error that explain a failure.
LOG_ERRORS = 3


class OnnxRuntime:
    """An .onnx file in a session on the CPU, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, optimized: bool) -> None:
        self._path, self._threads, self._optimized = path, threads, optimized
        self.session = self._open(self._options())
        self.inputs = [_specification(item) for item in self.session.get_inputs()]
        self.outputs = [_specification(item) for item in self.session.get_outputs()]
        self._input, self._outputs = self.session.get_inputs()[0].name, [self.session.get_outputs()[0].name]

    def infer(self, images: np.ndarray) -> np.ndarray:
        """One image in, one row of outputs out."""
        output: np.ndarray = self.session.run(self._outputs, {self._input: images})[0]
        return output

    def coverage(self) -> tuple[Coverage, tuple[str, ...]]:
        """From the profile of one inference in a session of its own: what ran, not what the file says."""
        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            item = session.get_inputs()[0]
            session.run(None, {item.name: np.zeros(item.shape, DTYPES[item.type])})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return coverage_of_profile(events)

    def _options(self) -> Any:
        """The defaults a user has, but for the threads: how many, and that idle ones do not spin."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = LOG_ERRORS
        if not self._optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options

    def _open(self, options: Any) -> Any:
        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])


def open_onnxruntime(path: str, *, threads: int) -> OnnxRuntime:
    """A default session: quantize-dequantize pairs become integer kernels."""
    return OnnxRuntime(path, threads=threads, optimized=True)


def open_unoptimized(path: str, *, threads: int) -> OnnxRuntime:
    """The graph as it is written: floats between the quantizations, so no integer kernel can saturate."""
    return OnnxRuntime(path, threads=threads, optimized=False)


def _specification(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "shape": list(item.shape),
        "dtype": DTYPES.get(item.type, item.type),
        # An ONNX file has no quantization on its inputs and outputs; the manifest says it.
        "scale": None,
        "zero_point": None,
    }
