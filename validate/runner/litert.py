"""LiteRT: a .tflite file in an interpreter. The package is ai-edge-litert, or its predecessor tflite-runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine import version_of

try:
    from ai_edge_litert import interpreter
except ModuleNotFoundError as error:
    if error.name != "ai_edge_litert" or version_of("tflite-runtime") is None:
        raise
    from tflite_runtime import interpreter


class LiteRt:
    """A .tflite file in an interpreter, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, resolver: str | None = None, **options: Any) -> None:
        """`resolver` names an OpResolverType; None is what an application gets (XNNPACK)."""
        if resolver is not None:
            options["experimental_op_resolver_type"] = getattr(interpreter.OpResolverType, resolver)
        self.interpreter = interpreter.Interpreter(model_path=path, num_threads=threads, **options)
        self.interpreter.allocate_tensors()
        self.inputs = [specification(item) for item in self.interpreter.get_input_details()]
        self.outputs = [specification(item) for item in self.interpreter.get_output_details()]
        self._inputs = [item["index"] for item in self.interpreter.get_input_details()]
        self._outputs = [item["index"] for item in self.interpreter.get_output_details()]

    def infer(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of one example: one array per input in, one per output out."""
        for index, values in zip(self._inputs, arrays):  # noqa: B905  (Python 3.9 on boards)
            self.interpreter.set_tensor(index, values)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self._outputs]

    def plan(self) -> dict[str, Any]:
        """The interpreter's plan, which holds the delegates next to the operations they replaced."""
        # There is no public way to list the operations; the version is pinned for this among others.
        operations = [
            {
                "kind": item["op_name"],
                "inputs": [int(index) for index in item["inputs"]],
                "outputs": [int(index) for index in item["outputs"]],
            }
            for item in self.interpreter._get_ops_details()
        ]
        tensors = [
            {
                "index": int(item["index"]), "name": item["name"], "dtype": np.dtype(item["dtype"]).name,
                "scales": len(item["quantization_parameters"]["scales"]), "channels": _channels(item),
            }
            for item in self.interpreter.get_tensor_details()
        ]
        ends = [
            int(item["index"])
            for item in (*self.interpreter.get_input_details(), *self.interpreter.get_output_details())
        ]
        return {"litert": {"operations": operations, "tensors": tensors, "ends": ends}}


def open_litert(path: str, *, threads: int) -> LiteRt:
    """What an application gets: XNNPACK takes every operation it knows."""
    return LiteRt(path, threads=threads)


def open_reference_kernels(path: str, *, threads: int) -> LiteRt:
    """The plain C++ kernels that define each operation; slow, and rounded twice where XNNPACK rounds once."""
    return LiteRt(path, threads=threads, resolver="BUILTIN_REF")


def specification(item: dict[str, Any]) -> dict[str, Any]:
    """Return one of the interpreter's input or output details as plain JSON values."""
    scales, zero_points = (item["quantization_parameters"][key] for key in ("scales", "zero_points"))
    quantized = len(scales) == 1
    return {
        "name": item["name"],
        "shape": [int(size) for size in item["shape"]],
        "dtype": np.dtype(item["dtype"]).name,
        "scale": float(scales[0]) if quantized else None,
        "zero_point": int(zero_points[0]) if quantized else None,
    }


def _channels(item: dict[str, Any]) -> int | None:
    """The length of the axis that per-channel scales run along; None for a scalar."""
    axis = item["quantization_parameters"]["quantized_dimension"]
    return int(item["shape"][axis]) if axis < len(item["shape"]) else None
