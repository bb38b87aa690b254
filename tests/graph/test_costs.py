"""Multiply-accumulates and live activations, held against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.graph import Graph, read_graph
from edgeship.graph.costs import arena_bytes, multiply_accumulates
from edgeship.graph.records import Operation, Tensor


def tensor(name: str, *shape: int | None, constant: bool = False, dtype: str = "int8") -> Tensor:
    data = np.zeros([size or 1 for size in shape], dtype) if constant else None
    return Tensor(name=name, dtype=dtype, shape=shape, data=data)


def graph(operations: list[tuple[str, list[str], str]], tensors: list[Tensor], **options: Any) -> Graph:
    return Graph(
        format=options.pop("format", "tflite"), inputs=("x",), outputs=(operations[-1][2],),
        tensors={item.name: item for item in tensors},
        operations=tuple(
            Operation(kind=kind, name=output, inputs=tuple(inputs), outputs=(output,), attributes=options)
            for kind, inputs, output in operations
        ),
        versions={}, metadata={},
    )


@pytest.mark.parametrize(("kind", "weights", "output", "expected"), [
    ("CONV_2D", (16, 3, 3, 8), (1, 10, 10, 16), 10 * 10 * 16 * 3 * 3 * 8),
    ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), (1, 10, 10, 8), 10 * 10 * 8 * 3 * 3),
    ("FULLY_CONNECTED", (5, 800), (1, 5), 5 * 800),
])
def test_tflite(kind: str, weights: tuple[int, ...], output: tuple[int, ...], expected: int) -> None:
    found = graph(
        [(kind, ["x", "w"], "y")],
        [tensor("x", 1, 10, 10, 8), tensor("w", *weights, constant=True), tensor("y", *output)],
    )
    assert multiply_accumulates(found) == expected


def test_transposed_convolutions_cost_by_their_input() -> None:
    found = graph(
        [("TRANSPOSE_CONV", ["s", "w", "x"], "y")],
        [tensor("s", 4, constant=True, dtype="int32"), tensor("w", 16, 3, 3, 8, constant=True),
         tensor("x", 1, 10, 10, 8), tensor("y", 1, 20, 20, 16)],
    )
    assert multiply_accumulates(found) == 10 * 10 * 8 * 16 * 3 * 3


@pytest.mark.parametrize(("kind", "weights", "output", "options", "expected"), [
    ("Conv", (16, 8, 3, 3), (1, 16, 10, 10), {}, 10 * 10 * 16 * 8 * 3 * 3),
    ("Conv", (8, 1, 3, 3), (1, 8, 10, 10), {}, 10 * 10 * 8 * 3 * 3),  # depthwise
    ("Gemm", (800, 5), (1, 5), {}, 800 * 5),
    ("Gemm", (5, 800), (1, 5), {"transB": 1}, 800 * 5),
    ("MatMul", (800, 5), (1, 5), {}, 800 * 5),
])
def test_onnx(
    kind: str, weights: tuple[int, ...], output: tuple[int, ...], options: dict[str, int], expected: int
) -> None:
    parts = [tensor("x", 1, 8, 10, 10), tensor("w", *weights, constant=True), tensor("y", *output)]
    assert multiply_accumulates(graph([(kind, ["x", "w"], "y")], parts, format="onnx", **options)) == expected
    unknown = [*parts[:2], Tensor(name="y", dtype="float32", shape=None)]
    found = graph([(kind, ["x", "w"], "y")], unknown, format="onnx", **options)
    assert multiply_accumulates(found) is None  # never a guess
    assert multiply_accumulates(found, {"y": output}) == expected


def test_the_home_model_by_the_paper(tiny_bundle: Path) -> None:
    """Both formats of one network count alike; ONNX shapes come from outside."""
    assert multiply_accumulates(read_graph(tiny_bundle / "int8-qat.tflite")) == multiply_accumulates(
        read_graph(tiny_bundle / "float32.tflite")
    )


def test_a_chain_of_products(chain: Callable[..., Path]) -> None:
    found = read_graph(chain(20))
    assert multiply_accumulates(found) is None
    assert multiply_accumulates(found, {f"t{index}": (1, 192) for index in range(1, 21)}) == 20 * 192 * 192


def test_live_activations_follow_the_order() -> None:
    """x (100) -> a (400) -> b (50); x is needed again at the end, so x, a and b are alive together."""
    parts = [tensor("x", 1, 100), tensor("a", 1, 400), tensor("b", 1, 50), tensor("y", 1, 100)]
    found = graph([("RELU", ["x"], "a"), ("MEAN", ["a"], "b"), ("ADD", ["x", "b"], "y")], parts)
    assert arena_bytes(found) == 100 + 400 + 50
    chain_only = graph([("RELU", ["x"], "a"), ("MEAN", ["a"], "b"), ("RELU", ["b"], "y")], parts)
    assert arena_bytes(chain_only) == 100 + 400


def test_unknown_shapes_are_no_figure() -> None:
    parts = [tensor("x", None, 100), Tensor(name="y", dtype="int8", shape=None)]
    assert arena_bytes(graph([("RELU", ["x"], "y")], parts)) is None
    open_batch = [tensor("x", None, 100), tensor("y", None, 100)]
    assert arena_bytes(graph([("RELU", ["x"], "y")], open_batch)) == 200  # an open batch is one
    strange = [tensor("x", 1, 100), Tensor(name="y", dtype="string", shape=(1, 3))]
    assert arena_bytes(graph([("RELU", ["x"], "y")], strange)) is None


# By hand, kind by kind --------------------------------------------------------------------------------


def cost(
    format: str, kind: str, x: tuple[int | None, ...], w: tuple[int | None, ...], y: tuple[int | None, ...],
    inputs: str = "x w", **attributes: Any
) -> int | None:
    parts = [tensor("x", *x), tensor("w", *w), tensor("y", *y), tensor("s", 4)]
    return multiply_accumulates(graph([(kind, inputs.split(), "y")], parts, format=format, **attributes))


HUGE = 2**31


@pytest.mark.parametrize(("found", "expected"), [
    # Two groups: each output sees half of the channels.
    (cost("tflite", "CONV_2D", (1, 8, 8, 4), (16, 3, 3, 2), (1, 8, 8, 16)), 8 * 8 * 16 * 3 * 3 * 2),
    (cost("onnx", "QLinearConv", (1, 4, 8, 8), (16, 2, 3, 3), (1, 16, 8, 8), "x s s w s s s s", group=2),
     8 * 8 * 16 * 3 * 3 * 2),
    (cost("tflite", "CONV_3D", (1, 5, 8, 8, 4), (2, 3, 3, 4, 16), (1, 4, 8, 8, 16)), 4 * 8 * 8 * 16 * 2 * 3 * 3 * 4),
    # A multiplier of 2: each of the 8 outputs sees one channel.
    (cost("tflite", "DEPTHWISE_CONV_2D", (1, 8, 8, 4), (1, 3, 3, 8), (1, 4, 4, 8)), 4 * 4 * 8 * 3 * 3),
    (cost("onnx", "ConvTranspose", (1, 4, 5, 5), (4, 6, 2, 2), (1, 6, 10, 10)), 5 * 5 * 4 * 6 * 2 * 2),
    (cost("tflite", "BATCH_MATMUL", (2, 3, 4), (2, 4, 5), (2, 3, 5)), 2 * 3 * 5 * 4),
    (cost("tflite", "BATCH_MATMUL", (2, 3, 4), (2, 5, 4), (2, 3, 5), adj_y=True), 2 * 3 * 5 * 4),
    (cost("onnx", "QLinearMatMul", (1, 20), (20, 10), (1, 10), "x s s w s s s s"), 10 * 20),
    (cost("onnx", "MatMul", (3, 20), (20,), (3,)), 3 * 20),
    (cost("onnx", "MatMul", (2, 3, 4), (2, 4, 5), (2, 3, 5)), 2 * 3 * 5 * 4),  # of two activations
    # A batch that is left open is one; any other size is not known.
    (cost("onnx", "Conv", (None, 4, 8, 8), (16, 4, 1, 1), (None, 16, 8, 8)), 8 * 8 * 16 * 4),
    (cost("onnx", "Conv", (1, 4, None, 8), (16, 4, 1, 1), (1, 16, None, 8)), None),
    (cost("onnx", "Conv", (1, 4, 8, 8), (16, 4, None, 1), (1, 16, 8, 8)), None),
    (cost("onnx", "Conv", (1, 4, 8, 8), (), (1, 16, 8, 8)), None),
    # Numbers of no machine.
    (cost("tflite", "CONV_2D", (1, 8, 8, 4), (HUGE, 3, 3, 4), (1, HUGE, HUGE, HUGE)), None),
    (cost("tflite", "CONV_2D", (1,), (16, 1, 1, 1), (HUGE,) * 1000), None),
    # They multiply by other rules.
    (cost("onnx", "LSTM", (1, 4), (4, 4), (1, 4)), None),
    (cost("tflite", "CUSTOM", (1, 4), (4, 4), (1, 4)), None),
    (cost("onnx", "Relu", (1, 4), (4, 4), (1, 4), "x"), 0),
])
def test_each_kind(found: int | None, expected: int | None) -> None:
    assert found == expected


def test_weights_behind_a_transpose_count_as_they_arrive() -> None:
    """A (10, 20) constant, transposed: the product sums over 20, whichever axis the file keeps them on."""
    parts = [
        tensor("x", 1, 20), tensor("w", 10, 20, constant=True), Tensor(name="t", dtype="int8", shape=None),
        tensor("y", 1, 10),
    ]
    found = graph([("Transpose", ["w"], "t"), ("MatMul", ["x", "t"], "y")], parts, format="onnx")
    assert multiply_accumulates(found) is None
    assert multiply_accumulates(found, {"t": (20, 10)}) == 10 * 20


def test_what_nobody_reads_is_there_only_while_it_is_made() -> None:
    parts = [tensor(name, 1, 10) for name in "xabcd"]
    found = graph([("A", ["x"], "a"), ("B", ["x"], "b"), ("C", ["b"], "c"), ("D", ["c"], "d")], parts)
    assert arena_bytes(found) == 20
    kept = Graph(**{**vars(found), "outputs": ("a", "b", "c", "d")})
    assert arena_bytes(kept) == 40


def test_bytes_follow_the_dtype() -> None:
    for dtype, size in (("int8", 1), ("int16", 2), ("float32", 4), ("bool", 1)):
        parts = [tensor("x", 1, 100, dtype=dtype), tensor("y", 1, 50, dtype=dtype)]
        assert arena_bytes(graph([("RELU", ["x"], "y")], parts)) == 150 * size
    for unknown in (tensor("y", 1, 50, dtype="int4"), tensor("y", *[HUGE] * 1000)):
        assert arena_bytes(graph([("RELU", ["x"], "y")], [tensor("x", 1, 100), unknown])) is None


def test_many_tensors_that_live_to_the_end() -> None:
    """Time grows with the file: squared, this one would take minutes."""
    count = 100_000
    names = [f"t{index}" for index in range(count)]
    parts = [tensor(name, 1) for name in ("x", *names, "y")]
    assert arena_bytes(graph([*(("RELU", ["x"], name) for name in names), ("ADD_N", names, "y")], parts)) == count + 1
