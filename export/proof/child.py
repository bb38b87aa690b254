"""A process of its own that runs exported files: a native runtime that crashes on a file ends this process only.

    python -m edgeship.export.proof.child JOBS RESULTS

JOBS is a JSON list of `{"file", "format", "inputs", "optimized", "tensors"}`: a model file, an .npz file of what it is
asked, an array per input with one entry per inference, whether ONNX Runtime may optimize the graph, and the names of
the tensors that are wanted (none: the model's outputs). The answers of job n are written to RESULTS/n.npz, one array
per tensor ("0", "1", ...), as soon as they are there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ERROR_FILE = "error.txt"
Infer = Callable[[list[np.ndarray]], list[np.ndarray]]


def tflite(path: str, tensors: Sequence[str]) -> Infer:
    """What an application gets (XNNPACK); with `tensors`, plain kernels that keep every tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    options: dict[str, Any] = {}
    if tensors:
        options = {
            "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "experimental_preserve_all_tensors": True,
        }
    interpreter = Interpreter(model_path=path, **options)
    interpreter.allocate_tensors()
    entries = [item["index"] for item in interpreter.get_input_details()]
    wanted = [item["index"] for item in interpreter.get_output_details()]
    if tensors:
        places = {item["name"]: item["index"] for item in interpreter.get_tensor_details()}
        wanted = [places[name] for name in tensors]

    def infer(values: list[np.ndarray]) -> list[np.ndarray]:
        for entry, array in zip(entries, values, strict=True):
            interpreter.set_tensor(entry, array)
        interpreter.invoke()
        return [np.array(interpreter.get_tensor(index)) for index in wanted]

    return infer


def onnx(path: str, tensors: Sequence[str], *, optimized: bool) -> Infer:
    """Of an .onnx or an .ort file; ONNX Runtime tells them apart."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if not optimized or tensors:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = _with_outputs(path, tensors) if tensors else path
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    entries = [item.name for item in session.get_inputs()]
    wanted = list(tensors) or [item.name for item in session.get_outputs()]
    return lambda values: list(session.run(wanted, dict(zip(entries, values, strict=True))))


def _with_outputs(path: str, tensors: Sequence[str]) -> bytes:
    """The model with `tensors` among its outputs."""
    import onnx as library

    model = library.load(path)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(library.ValueInfoProto(name=name) for name in tensors if name not in present)
    return bytes(model.SerializeToString())


def run(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """All inferences of one job."""
    with np.load(job["inputs"], allow_pickle=False) as arrays:
        inputs = [arrays[key] for key in arrays.files]
    if job["format"] == "tflite":
        infer = tflite(job["file"], job["tensors"])
    else:
        infer = onnx(job["file"], job["tensors"], optimized=job["optimized"])
    answers = [infer([array[place : place + 1] for array in inputs]) for place in range(len(inputs[0]))]
    return {str(place): np.concatenate(arrays) for place, arrays in enumerate(zip(*answers, strict=True))}


def main(jobs: str, results: str) -> None:
    """Run every job in turn; what stops one is written down, and ends this process."""
    for place, job in enumerate(json.loads(Path(jobs).read_text(encoding="utf-8"))):
        try:
            np.savez(Path(results) / f"{place}.npz", **run(job))  # type: ignore[arg-type]
        except Exception as error:
            (Path(results) / ERROR_FILE).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            raise SystemExit(1) from error


if __name__ == "__main__":
    main(*sys.argv[1:])
