"""ONNX Runtime: an .onnx or .ort file in a session on the CPU."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in (
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    )},
}
# Errors only: warnings would fill the lines of standard error that explain a failure.
LOG_ERRORS = 3
KERNEL = "_kernel_time"  # how the name of a kernel's event in a profile ends; before it is the node's


class OnnxRuntime:
    """An .onnx or .ort file in a session on the CPU, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, optimized: bool = True) -> None:
        self._path, self._threads, self._optimized = path, threads, optimized
        self.session = self._open(self._options())
        self.inputs = [_specification(item) for item in self.session.get_inputs()]
        self.outputs = [_specification(item) for item in self.session.get_outputs()]
        self._names, self._outputs = [[item["name"] for item in ends] for ends in (self.inputs, self.outputs)]

    def infer(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of one example: one array per input in, one per output out."""
        outputs: list[np.ndarray] = self.session.run(self._outputs, self.feeds(arrays))
        return outputs

    def feeds(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the inputs by name."""
        return dict(zip(self._names, arrays))  # noqa: B905  (Python 3.9 on boards)

    def plan(self) -> dict[str, Any]:
        """The profile of one inference in a session of its own: what ran, not what the file says."""
        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(options)
            session.run(None, {item["name"]: self._zeros(item) for item in self.inputs})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return {"onnxruntime": {"events": [event for event in events if event.get("cat") == "Node"]}}

    def profile(self, arrays: list[np.ndarray], *, runs: int, seconds: float, discarded: int) -> dict[str, Any]:
        """The mean time of each kernel over up to `runs` inferences of one example, in a session of its own."""
        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session, feeds = self._open(options), self.feeds(arrays)
            inferences, end_ns = 0, time.perf_counter_ns() + int(seconds * 1e9)
            while inferences < discarded + 1 or (
                inferences < discarded + runs and time.perf_counter_ns() < end_ns
            ):
                session.run(None, feeds)
                inferences += 1
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        counted = sorted(
            (event for event in events if event["name"] == "model_run"), key=lambda event: int(event["ts"])
        )[discarded:]
        kernels: dict[tuple[str, str], int] = {}
        for event in events:
            if event["name"].endswith(KERNEL) and event["ts"] >= counted[0]["ts"]:
                key = event["name"][: -len(KERNEL)], event["args"]["op_name"]
                kernels[key] = kernels.get(key, 0) + event["dur"]
        return {
            "operations": [(*key, duration_us / len(counted)) for key, duration_us in kernels.items()],
            "inferences": len(counted),
            "inference_us": sum(event["dur"] for event in counted) / len(counted),
        }

    def _zeros(self, item: dict[str, Any]) -> np.ndarray:
        """Return an input of zeros, which are in range for numbers of classes and tokens too; open sizes are 1."""
        shape = [size if isinstance(size, int) and size > 0 else self.batch for size in item["shape"]]
        return np.zeros(shape, item["dtype"])

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
    return OnnxRuntime(path, threads=threads)


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
