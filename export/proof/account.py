"""Does an ONNX file have everything that the TFLite file has it was made from: every weight, bias, scale, zero point?

By structure first (`edgeship.graph.matching`: what belongs together, and is it the same), then by count, for what
structure cannot tell: whatever an operation multiplies by or adds in the one file is there in the other, as often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeship.core.errors import ExportError
from edgeship.core.integers import SHIFTS
from edgeship.core.text import some
from edgeship.graph import Graph, read_onnx, read_tflite
from edgeship.graph.columns import with_plain_columns
from edgeship.graph.differences import compare
from edgeship.graph.matching import match

NAMED = 5  # of differences, in a message


def hold_to_account(onnx: bytes, tflite: bytes, *, name: str, source: str) -> None:
    """Hold an integer ONNX file against the TFLite file it was made from.

    Args:
        name, source: the two files' names.

    Raises:
        ExportError: naming the file and each weight, bias, scale or zero point that is missing or another one.
    """
    first, second = read_tflite(tflite, where=Path(source)), with_plain_columns(read_onnx(onnx, where=Path(name)))
    found = list(compare(first, second, match(first, second)).differences)
    if not found:
        wanted, present = (Counter(numbers for _, numbers in _constants(graph)) for graph in (first, second))
        lost = wanted - present
        found = [f"{name}: not in it" for name, numbers in _constants(first) if numbers in lost]
    if found:
        raise ExportError(f"{name}: not what {source} is: {some(found, shown=NAMED, by='; ')}")


def _constants(graph: Graph) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """(name, numbers and scales in an order that no layout changes) of every integer kernel and bias.

    A bias of zeros may be left out, so it is not counted.
    """
    for item in graph.weighted_operations():
        for kind, tensor in (("kernel", item.weights), ("bias", item.bias)):
            if tensor is None or tensor.data is None or not tensor.is_integer:
                continue
            values = np.sort(tensor.data.astype(np.int64), axis=None) - SHIFTS.get(tensor.dtype, 0)
            if kind == "kernel" or np.any(values):
                scales = np.zeros(0) if tensor.scales is None or kind == "bias" else np.unique(tensor.scales)
                yield f"{item.operation.name}/{kind}", (kind.encode(), values.tobytes(), scales.tobytes())
