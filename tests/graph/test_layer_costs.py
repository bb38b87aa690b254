"""Multiply-accumulates, parameters and activation bytes, each by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeship.graph import Graph, read_graph
from edgeship.graph.costs import multiply_accumulates
from edgeship.graph.layer_costs import kernels_arena_bytes, layer_costs
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


def qdq(*, weights: str = "int8") -> Graph:
    """Float x of 100 numbers, rounded; a product to 50 with a ReLU; half of it and the whole joined; float y of 75."""
    tensors = [
        tensor("x", 1, 100, dtype="float32"), tensor("xq", 1, 100), tensor("xd", 1, 100, dtype="float32"),
        tensor("w", 100, 50, constant=True), tensor("f", 100, 50, constant=True, dtype="float32"),
        tensor("wd", 100, 50, dtype="float32"), tensor("s", constant=True, dtype="float32"), tensor("z", constant=True),
        tensor("a", 1, 50, dtype="float32"), tensor("r", 1, 50, dtype="float32"), tensor("aq", 1, 50),
        tensor("ad", 1, 50, dtype="float32"), tensor("b", 1, 25, dtype="float32"), tensor("bq", 1, 25),
        tensor("bd", 1, 25, dtype="float32"), tensor("c", 1, 75, dtype="float32"), tensor("cq", 1, 75),
        tensor("y", 1, 75, dtype="float32"),
    ]
    used = "wd" if weights == "int8" else "f"
    return graph("onnx", [
        ("QuantizeLinear", "x s z", "xq"), ("DequantizeLinear", "xq s z", "xd"), ("DequantizeLinear", "w s z", "wd"),
        ("MatMul", f"xd {used}", "a"), ("Relu", "a", "r"), ("QuantizeLinear", "r s z", "aq"),
        ("DequantizeLinear", "aq s z", "ad"), ("AveragePool", "ad", "b"), ("QuantizeLinear", "b s z", "bq"),
        ("DequantizeLinear", "bq s z", "bd"), ("Concat", "ad bd", "c"), ("QuantizeLinear", "c s z", "cq"),
        ("DequantizeLinear", "cq s z", "y"),
    ], tensors)


def test_the_arena_of_a_qdq_file_is_that_of_its_integers() -> None:
    """At once: x and xq 400 + 100; xq and aq 100 + 50; aq, bq 50 + 25; aq, bq, cq 150; cq and y 75 + 300."""
    assert kernels_arena_bytes(qdq()) == 500
    assert [item.activation_bytes for item in layer_costs(qdq())] == [50, 25, 75]
    integer_ends = dataclasses.replace(qdq(), inputs=("xq",), outputs=("cq",), operations=qdq().operations[1:-1])
    assert kernels_arena_bytes(integer_ends) == 150
    assert kernels_arena_bytes(qdq(weights="float32")) is None


def test_both_formats_need_the_same_memory_between_their_ends(tiny_bundle: Path) -> None:
    lite, path = tiny_bundle / "int8-qat.tflite", tiny_bundle / "int8-qat.onnx"
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path)).graph.value_info
    shapes = {item.name: tuple(size.dim_value for size in item.type.tensor_type.shape.dim) for item in inferred}
    assert kernels_arena_bytes(read_graph(path), shapes) == kernels_arena_bytes(read_graph(lite)) is not None


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
    lite, other = (
        [item.parameters for item in layer_costs(read_graph(tiny_bundle / file)) if item.parameters]
        for file in ("int8-qat.tflite", "int8-qat.onnx")
    )
    assert sorted(lite) == sorted(other)
