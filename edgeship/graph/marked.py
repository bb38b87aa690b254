"""Conversions of an ONNX file whose numbers are not those of the tensor: which, and which grid the tensor has.

Between a DequantizeLinear and a QuantizeLinear, export writes two operations on other numbers, since ONNX Runtime then
gives the integers that LiteRT gives (export/onnx_passes/resized_codes.py, tanh_codes.py):

    Resize     of the codes, counted from the lowest on in steps of 1: its input and its result are on one grid
    Sigmoid    of twice the values, in place of a tanh: code by code, 256 sigmoid(2x) is 128 tanh(x) + 128

STEP is the mark of both, as the scale of the QuantizeLinear, or as a factor of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.graph.records import Graph, Operation, Tensor

ONE = np.float32(1)
STEP = np.nextafter(ONE, np.float32(0))
# A sigmoid's and a tanh's steps (TFLite's quantization specification), the sigmoid's with the mark.
SIGMOID_STEP, TANH_STEP = STEP / np.float32(256), np.float32(1 / 128)
TANH_OVER_LOWEST = 128  # the tanh's zero point, counted from the lowest code
MARKS = {"Resize": STEP, "Sigmoid": SIGMOID_STEP}


@dataclass(frozen=True, kw_only=True, eq=False)
class Marked:
    """An operation on other numbers than its tensors', and the two conversions around it."""

    kind: str
    before: Operation
    after: Operation


def marked(tensors: Mapping[str, Tensor], operations: tuple[Operation, ...]) -> Iterator[Marked]:
    """Yield each operation that a mark says to be on other numbers."""
    made_by = {name: operation for operation in operations for name in operation.outputs}
    for after in operations:
        operation = made_by.get(after.inputs[0]) if is_marked(after, tensors) else None
        before = made_by.get(operation.inputs[0]) if operation is not None and operation.inputs else None
        if operation is None or before is None or before.kind != "DequantizeLinear":
            continue
        if _constant(before, 1, tensors) is not None and MARKS.get(operation.kind) == _constant(after, 1, tensors):
            yield Marked(kind=operation.kind, before=before, after=after)


def is_marked(conversion: Operation, tensors: Mapping[str, Tensor]) -> bool:
    """Whether an operation is a QuantizeLinear with a mark as its scale, and the lowest code as its zero point."""
    if conversion.kind != "QuantizeLinear" or _constant(conversion, 1, tensors) not in MARKS.values():
        return False
    lowest = _constant(conversion, 2, tensors)
    return lowest is not None and lowest.dtype.kind in "iu" and bool(lowest == np.iinfo(lowest.dtype).min)


def is_before_marked(conversion: Operation, graph: Graph) -> bool:
    """Whether all that reads a DequantizeLinear is on other numbers than the tensor's."""
    readers = graph.consumers.get(conversion.outputs[0], ())
    return bool(readers) and all(
        reader.kind in MARKS and any(
            is_marked(after, graph.tensors) for after in graph.consumers.get(reader.outputs[0], ())
        )
        for reader in readers
    )


def tanh_grids(found: Marked, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (name, scales, zero points) of the tensors that a tanh reads and makes."""
    before, lowest = found.before, _constant(found.after, 2, tensors)
    scale, zero_point = _constant(before, 1, tensors), _constant(before, 2, tensors)
    assert scale is not None and lowest is not None
    middle = np.array([int(lowest) + TANH_OVER_LOWEST], np.int64)
    yield found.after.outputs[0], np.array([TANH_STEP]), middle
    if zero_point is not None:
        yield before.inputs[0], np.array([scale / 2]), np.array([int(zero_point)], np.int64)


def _constant(operation: Operation, at: int, tensors: Mapping[str, Tensor]) -> Any:
    """Return the one number of an input, of NumPy's type; None where it has none or several."""
    data = tensors[operation.inputs[at]].data if len(operation.inputs) > at and operation.inputs[at] else None
    if data is None or data.size != 1:
        return None
    return data.reshape(())[()]
