"""LiteRT (TensorFlow Lite). Imported in a worker process only."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeship.measurement import Coverage
from validate.coverage import PlannedOperation, PlannedTensor, coverage_of_plan


class LiteRt:
    """A .tflite file in an interpreter, batch 1."""

    batch = 1

    def __init__(self, path: str, *, threads: int, **options: Any) -> None:
        self.interpreter = Interpreter(model_path=path, num_threads=threads, **options)
        self.interpreter.allocate_tensors()
        self.inputs = [_specification(item) for item in self.interpreter.get_input_details()]
        self.outputs = [_specification(item) for item in self.interpreter.get_output_details()]
        self._input = self.interpreter.get_input_details()[0]["index"]
        self._output = self.interpreter.get_output_details()[0]["index"]

    def infer(self, images: np.ndarray) -> np.ndarray:
        """One image in, one row of outputs out."""
        self.interpreter.set_tensor(self._input, images)
        self.interpreter.invoke()
        output: np.ndarray = self.interpreter.get_tensor(self._output)
        return output

    def coverage(self) -> tuple[Coverage, tuple[str, ...]]:
        """From the interpreter's plan, which holds the delegates next to the operations they replaced."""
        operations = [
            PlannedOperation(
                kind=item["op_name"],
                inputs=tuple(int(index) for index in item["inputs"]),
                outputs=tuple(int(index) for index in item["outputs"]),
            )
            # There is no public way to list the operations; the version is pinned for this among others.
            for item in self.interpreter._get_ops_details()
        ]
        tensors = {
            item["index"]: PlannedTensor(
                name=item["name"],
                dtype=np.dtype(item["dtype"]).name,
                scales=len(item["quantization_parameters"]["scales"]),
                channels=_channels(item),
            )
            for item in self.interpreter.get_tensor_details()
        }
        return coverage_of_plan(operations, tensors)

    def tensors(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every int8 activation by name after one inference (`open_keeping_tensors` keeps them)."""
        self.infer(image)
        computed = {int(index) for item in self.interpreter._get_ops_details() for index in item["outputs"]}
        return {
            item["name"]: self.interpreter.get_tensor(item["index"])
            for item in self.interpreter.get_tensor_details()
            if item["index"] in {self._input, *computed} and item["dtype"] == np.int8
        }


def open_litert(path: str, *, threads: int) -> LiteRt:
    """What an application gets: XNNPACK takes every operation it knows."""
    return LiteRt(path, threads=threads)


def open_reference_kernels(path: str, *, threads: int) -> LiteRt:
    """The plain C++ kernels that define each operation; slow, and rounded twice where XNNPACK rounds once."""
    return LiteRt(path, threads=threads, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)


def open_keeping_tensors(path: str, *, threads: int) -> LiteRt:
    """No delegate and no memory shared between tensors, so that all of them can be read afterwards."""
    return LiteRt(
        path,
        threads=threads,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def _specification(item: dict[str, Any]) -> dict[str, Any]:
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
