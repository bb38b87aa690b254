"""A product that tf2onnx wrote twice, alone and within a sum, is computed once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.export.onnx_passes.one_product import one_product

GENERATOR = np.random.default_rng(0)
CONSTANTS = {"w": GENERATOR.normal(size=(4, 3)), "v": GENERATOR.normal(size=(4, 3)), "c": GENERATOR.normal(size=(1, 3))}


def model_of(*, kernel: str = "w", added: str = "largest", **attributes: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("ReduceMax", ["product"], ["largest"], axes=[1]),
        helper.make_node("Gemm", ["x", kernel, added], ["sum"], name="sum", **attributes),
        helper.make_node("Add", ["sum", "largest"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 4), ("y", 3))]
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in CONSTANTS.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def answers(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"x": np.linspace(-1, 2, 4, dtype=np.float32)[None]})[0]
    return result


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("attributes", [{}, {"alpha": 1.0, "beta": 1.0}])
def test_a_sum_reads_the_product_that_is_there(attributes: dict[str, float]) -> None:
    model = model_of(**attributes)
    before = answers(model)
    one_product(model)
    assert kinds(model) == ["MatMul", "ReduceMax", "Add", "Add"]
    np.testing.assert_allclose(answers(model), before, rtol=1e-6)


@pytest.mark.parametrize("options", [{"kernel": "v"}, {"added": "c"}, {"alpha": 2.0}, {"beta": 0.5}])
def test_another_product_stays(options: dict[str, float | str]) -> None:
    model = model_of(**options)  # type: ignore[arg-type]
    one_product(model)
    assert kinds(model) == ["MatMul", "ReduceMax", "Gemm", "Add"]
