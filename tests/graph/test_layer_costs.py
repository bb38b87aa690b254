"""Multiply-accumulates, parameters and activation bytes, each by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.graph import Graph, read_graph
from edgeship.graph.costs import multiply_accumulates
from edgeship.graph.layer_costs import layer_costs
from edgeship.graph.records import Operation, Tensor


def tensor(name: str, *shape: int, constant: bool = False, dtype: str = "int8") -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, data=np.zeros(shape, dtype) if constant else None)


def graph(format: str, operations: list[tuple[str, str, str]], tensors: list[Tensor], **attributes: Any) -> Graph:
    return Graph(
        format=format, inputs=("x",), outputs=(operations[-1][2],), tensors={item.name: item for item in tensors},
        operations=tuple(
            Operation(kind=kind, name=output, inputs=tuple(read.split()), outputs=(output,), attributes=attributes)
            for kind, read, output in operations
        ),
        versions={}, metadata={},
    )


@pytest.mark.parametrize(("format", "kind", "read", "x", "w", "bias", "y", "expected"), [
    # 8x8 results of 16 channels, each of a 3x3x4 window; 16x3x3x4 weights and 16 biases; 8x8x16 bytes.
    ("tflite", "CONV_2D", "x w b", (1, 8, 8, 4), (16, 3, 3, 4), 16, (1, 8, 8, 16), (36_864, 592, 1024)),
    ("onnx", "Conv", "x w b", (1, 4, 8, 8), (16, 4, 3, 3), 16, (1, 16, 8, 8), (36_864, 592, 1024)),
    # Each of the 8 channels sees its own 3x3 window: 8x8x8 x 9; 72 weights and 8 biases.
    ("tflite", "DEPTHWISE_CONV_2D", "x w b", (1, 8, 8, 8), (1, 3, 3, 8), 8, (1, 8, 8, 8), (4608, 80, 512)),
    ("onnx", "Conv", "x w b", (1, 8, 8, 8), (8, 1, 3, 3), 8, (1, 8, 8, 8), (4608, 80, 512)),
    # 10 results of 20 numbers.
    ("tflite", "FULLY_CONNECTED", "x w b", (1, 20), (10, 20), 10, (1, 10), (200, 210, 10)),
    ("onnx", "Gemm", "x w b", (1, 20), (20, 10), 10, (1, 10), (200, 210, 10)),
    # Each of 5x5x4 elements meets a 2x2 window of 6 channels: 100 x 24; 96 weights and 6 biases; 10x10x6 bytes.
    ("tflite", "TRANSPOSE_CONV", "s w x b", (1, 5, 5, 4), (6, 2, 2, 4), 6, (1, 10, 10, 6), (2400, 102, 600)),
    ("onnx", "ConvTranspose", "x w b", (1, 4, 5, 5), (4, 6, 2, 2), 6, (1, 6, 10, 10), (2400, 102, 600)),
    # One dimension: 30 results of 8 channels, each of 5 steps of 3 channels; TFLite writes it with a height of 1.
    ("tflite", "CONV_2D", "x w b", (1, 1, 30, 3), (8, 1, 5, 3), 8, (1, 1, 30, 8), (3600, 128, 240)),
    ("onnx", "Conv", "x w b", (1, 3, 30), (8, 3, 5), 8, (1, 8, 30), (3600, 128, 240)),
])
def test_each_kind(
    format: str, kind: str, read: str, x: tuple[int, ...], w: tuple[int, ...], bias: int, y: tuple[int, ...],
    expected: tuple[int, int, int],
) -> None:
    parts = [
        tensor("x", *x), tensor("w", *w, constant=True), tensor("b", bias, constant=True, dtype="int32"),
        tensor("s", 4, constant=True, dtype="int32"), tensor("y", *y),
    ]
    (found,) = layer_costs(graph(format, [(kind, read, "y")], parts))
    assert (found.layer, found.kind) == ("y", kind)
    assert (found.multiply_accumulates, found.parameters, found.activation_bytes) == expected


def test_shared_weights_are_counted_once_and_moves_cost_memory_alone() -> None:
    parts = [
        tensor("x", 1, 4), tensor("w", 4, 4, constant=True), tensor("a", 1, 4), tensor("b", 1, 4),
        tensor("shape", 2, constant=True, dtype="int32"), tensor("y", 4, 1),
    ]
    operations = [
        ("FULLY_CONNECTED", "x w", "a"), ("FULLY_CONNECTED", "a w", "b"), ("RESHAPE", "b shape", "y"),
    ]
    found = layer_costs(graph("tflite", operations, parts))
    assert [item.parameters for item in found] == [16, 0, 0]
    assert [item.multiply_accumulates for item in found] == [16, 16, 0]
    assert [item.activation_bytes for item in found] == [4, 4, 4]


def test_what_the_file_does_not_say_is_not_measured() -> None:
    parts = [tensor("x", 1, 4), tensor("w", 4, 4, constant=True), Tensor(name="y", dtype="unknown", shape=None)]
    (found,) = layer_costs(graph("onnx", [("Gemm", "x w", "y")], parts))
    assert found.multiply_accumulates is None and found.activation_bytes is None and found.parameters == 16
    (found,) = layer_costs(graph("tflite", [("CUSTOM", "x w", "y")], parts))
    assert found.multiply_accumulates is None  # by rules of its own


@pytest.mark.parametrize("file", ["float32.tflite", "int8-qat.tflite"])
def test_the_layers_of_a_file_add_up_to_the_file(tiny_bundle: Path, file: str) -> None:
    read = read_graph(tiny_bundle / file)
    found = layer_costs(read)
    assert sum(item.multiply_accumulates or 0 for item in found) == multiply_accumulates(read)


def test_two_formats_have_the_same_parameters_layer_by_layer(tiny_bundle: Path) -> None:
    lite, onnx = (
        [item.parameters for item in layer_costs(read_graph(tiny_bundle / file)) if item.parameters]
        for file in ("int8-qat.tflite", "int8-qat.onnx")
    )
    assert sorted(lite) == sorted(onnx)
