"""Conversions on other numbers than their tensors': the tensors keep their grids, and no bound is read from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.graph import read_onnx
from edgeship.graph.code_bounds import largest_code
from edgeship.graph.marked import ONE, SIGMOID_STEP, STEP

# Kind -> scales of the conversions before and behind it; (scale, zero point) of its input and of its result.
CASES = {
    "Resize": (ONE, STEP, (np.float32(5), 100), (np.float32(5), 100)),
    "Sigmoid": (np.float32(0.5), SIGMOID_STEP, (np.float32(0.25), 0), (np.float32(1 / 128), 128)),
}


def graph_of(kind, *, last_step=None):
    """uint8 x -> DequantizeLinear -> the operation -> QuantizeLinear y -> DequantizeLinear of y's own grid."""
    before, behind, _, (scale, zero_point) = CASES[kind]
    numbers = {
        "before": before, "behind": behind if last_step is None else last_step, "zero": np.uint8(0), "scale": scale,
        "zero_point": np.uint8(zero_point), "factors": np.array([1, 1, 2, 2], np.float32),
    }
    more, options = (["", "factors"], {"mode": "linear"}) if kind == "Resize" else ([], {})
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["x", "before", "zero"], ["a"]),
            helper.make_node(kind, ["a", *more], ["b"], **options),
            helper.make_node("QuantizeLinear", ["b", "behind", "zero"], ["y"]),
            helper.make_node("DequantizeLinear", ["y", "scale", "zero_point"], ["out"]),
        ], "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return read_onnx(model.SerializeToString(), where=Path("m.onnx"))


@pytest.mark.parametrize("kind", CASES)
def test_the_tensors_keep_their_grids_and_have_no_bound(kind):
    graph = graph_of(kind)
    for name, (scale, zero_point) in zip(("x", "y"), CASES[kind][2:], strict=True):
        tensor = graph.tensors[name]
        assert (tensor.scales, tensor.zero_points) == ([scale], [zero_point])
    assert largest_code(graph, "out", graph.tensors["y"]) == 255


@pytest.mark.parametrize("kind", CASES)
def test_without_the_mark_a_conversion_means_what_it_says(kind):
    graph = graph_of(kind, last_step=np.float32(0.5))
    assert graph.tensors["y"].scales == [np.float32(0.5)] and graph.tensors["x"].scales == [CASES[kind][0]]
