"""Channels that ONNX Runtime's fastest int8 convolution takes on x86, and those that it does not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from edgeship.inspect.convolutions import missed_conditions
from edgeship.inspect.inspection import inspect_file, inspection_to_dict, render


@pytest.mark.parametrize(("outputs", "inputs", "group", "lacks"), [
    (16, 4, 1, []), (24, 64, 1, []), (32, 1, 32, []), (16, 1, 16, []),
    (16, 3, 1, ["3 input channels, no multiple of 4"]),  # an RGB stem
    (8, 4, 1, ["8 output channels, fewer than 16"]),
    (20, 4, 1, ["20 output channels, no multiple of 8"]),
    (8, 3, 1, ["3 input channels, no multiple of 4", "8 output channels, fewer than 16"]),
    (8, 1, 8, ["8 channels, no multiple of 16"]), (32, 1, 16, ["16 groups that are not depthwise"]),
    (32, 2, 16, ["16 groups that are not depthwise"]),
])
def test_the_conditions(outputs: int, inputs: int, group: int, lacks: list[str]) -> None:
    assert list(missed_conditions(outputs, inputs, group=group)) == lacks


def model(*, weights: type) -> onnx.ModelProto:
    """x -> QLinearConv 3 -> 16 (stem) -> QLinearConv 16 -> 16 (body) -> y."""
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(0), "z")
    zero_weights = numpy_helper.from_array(np.zeros((), weights), "wz")
    kernels = [
        numpy_helper.from_array(np.ones((16, 3, 1, 1), weights), "stem_w"),
        numpy_helper.from_array(np.ones((16, 16, 1, 1), weights), "body_w"),
    ]
    nodes = [
        helper.make_node("QLinearConv", [data, "s", "z", f"{name}_w", "s", "wz", "s", "z"], [result], name=name)
        for data, name, result in (("x", "stem", "h"), ("h", "body", "y"))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 16, 2, 2])], [scale, zero, zero_weights, *kernels],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_inspect_names_them_in_files_that_could_have_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model(weights=np.int8).SerializeToString())
    inspection = inspect_file(path)
    assert inspection.slow_convolutions == ("stem: 3 input channels, no multiple of 4",)
    assert inspection_to_dict(inspection)["slow_convolutions"] == list(inspection.slow_convolutions)
    stream = io.StringIO()
    Console(file=stream, width=200).print(render(inspection))
    assert "1 convolution(s) miss the fastest int8 kernel: stem: 3 input channels" in stream.getvalue()
    path.write_bytes(model(weights=np.uint8).SerializeToString())  # no kernel of this kind at all
    assert inspect_file(path).slow_convolutions == ()
