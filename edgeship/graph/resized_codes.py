"""A Resize of codes in an ONNX file: its input and its result are on one grid, which the file does not say there.

The conversions around it count codes from the lowest on, so that its result is rounded as in LiteRT
(export/onnx_passes/resized_codes.py writes them so); STEP is their mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgeship.graph.records import Operation, Tensor

ONE = np.float32(1)
STEP = np.nextafter(ONE, np.float32(0))


def resized_codes(
    tensors: Mapping[str, Tensor], operations: tuple[Operation, ...]
) -> Iterator[tuple[Operation, Operation]]:
    """Yield the two conversions around each Resize of codes: a DequantizeLinear and a QuantizeLinear."""
    made_by = {name: operation for operation in operations for name in operation.outputs}
    for quantize in operations:
        if quantize.kind != "QuantizeLinear" or not counts_codes(quantize, tensors, step=STEP):
            continue
        resize = made_by.get(quantize.inputs[0])
        if resize is None or resize.kind != "Resize":
            continue
        dequantize = made_by.get(resize.inputs[0])
        if dequantize is not None and dequantize.kind == "DequantizeLinear" and counts_codes(dequantize, tensors):
            yield dequantize, quantize


def counts_codes(conversion: Operation, tensors: Mapping[str, Tensor], *, step: np.float32 = ONE) -> bool:
    """Whether the real numbers of a conversion are the codes, counted from the lowest on in steps of `step`."""
    if len(conversion.inputs) < 3 or not all(conversion.inputs[1:3]):
        return False
    scale, zero_point = (tensors[name].data for name in conversion.inputs[1:3])
    if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        return False
    return zero_point.dtype.kind in "iu" and bool(scale.item() == step and zero_point.item() == np.iinfo(zero_point.dtype).min)
