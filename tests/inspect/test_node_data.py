"""Node data for Model Explorer: keys are tensors of the file, values are those of the costs and of the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.app.cli import main as cli
from edgeship.core.errors import InputError
from edgeship.core.measurement import Coverage, LayerError, LayerErrors
from edgeship.graph import read_graph, read_onnx
from edgeship.inspect.node_data import COLOURS, FLOAT, INTEGER, KEPT, node_data
from tests.support.report_records import classifier

SHAPE = (1, 2, 4, 4)


def convolution(path: Path) -> Path:
    """QuantizeLinear, QLinearConv (2 -> 3 channels, 1x1), DequantizeLinear, Relu: two integer results and two float."""
    constants = {
        "scale": np.float32(0.5), "zero": np.uint8(0), "w": np.ones((3, 2, 1, 1), np.uint8),
        "w_scale": np.full(3, 0.1, np.float32), "w_zero": np.full(3, 128, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node(
            "QLinearConv", ["q", "scale", "zero", "w", "w_scale", "w_zero", "scale", "zero"], ["c"], name="conv"
        ),
        helper.make_node("DequantizeLinear", ["c", "scale", "zero"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 4, 4))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        value_info=[
            helper.make_tensor_value_info("q", TensorProto.UINT8, SHAPE),
            helper.make_tensor_value_info("c", TensorProto.UINT8, (1, 3, 4, 4)),
            helper.make_tensor_value_info("d", TensorProto.FLOAT, (1, 3, 4, 4)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def values(document: dict[str, Any]) -> dict[str, Any]:
    return {name: item["value"] for name, item in document["results"].items()}


def test_costs_and_number_types_by_hand(tmp_path: Path) -> None:
    graph = read_onnx(convolution(tmp_path / "c.onnx").read_bytes(), where=Path("c.onnx"))
    found = node_data(graph)
    assert set(found) == {"number-type", "multiply-accumulates", "parameters", "activation-bytes"}
    assert values(found["number-type"]) == {"q": INTEGER, "c": INTEGER, "d": FLOAT, "y": FLOAT}
    assert values(found["multiply-accumulates"])["c"] == 3 * 2 * 4 * 4  # outputs x channels of the input
    assert values(found["parameters"])["c"] == 3 * 2
    assert values(found["activation-bytes"])["c"] == 3 * 4 * 4
    assert found["number-type"]["results"]["d"]["bgColor"] == COLOURS[FLOAT]
    made = {name for operation in graph.operations for name in operation.outputs}
    assert all(set(document["results"]) <= made for document in found.values())


def test_errors_and_kept_layers_come_from_the_report(tmp_path: Path) -> None:
    graph = read_graph(convolution(tmp_path / "c.onnx"))
    kept = Coverage(integer=2, total=4, float_ops=(), per_channel=1, weighted=1, kept_float=("Relu last",))
    given = classifier("c.onnx")
    rows = tuple(dataclasses.replace(row, coverage=kept) if row.artifact == "c.onnx" else row for row in given.rows)
    error = LayerError(layer="c", float_result="c", kind="QLinearConv", sqnr_db=31.5, max_lsb=2.0, saturated=0.0)
    errors = LayerErrors(artifact="c.onnx", reference=None, images=1, layers=(error,), first_bad=None, not_compared=())
    report = dataclasses.replace(given, rows=rows, layer_errors=(errors,))
    found = node_data(graph, report=report, artifact="c.onnx")
    assert values(found["error-db"]) == {"c": -31.5} and values(found["max-lsb"]) == {"c": 2.0}
    assert values(found["number-type"])["y"] == KEPT and values(found["number-type"])["d"] == FLOAT
    assert values(found["time-share"]) == {"c": 0.75}  # of the kernel that the runtime calls "conv"
    with pytest.raises(InputError, match=r"expected the report of a bundle with d\.onnx, found one with c\.onnx, "):
        node_data(graph, report=report, artifact="d.onnx")


def test_the_command_writes_one_file_for_each_thing_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = convolution(tmp_path / "c.onnx"), tmp_path / "data"
    assert cli.main(["inspect", str(file), "--node-data", str(out)]) == 0
    assert "node data for Model Explorer in" in capsys.readouterr().out
    assert {path.stem for path in out.iterdir()} == {
        "number-type", "multiply-accumulates", "parameters", "activation-bytes"
    }
    for path in out.iterdir():
        assert json.loads(path.read_text())["results"]


def test_a_report_alone_and_a_file_for_a_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = convolution(tmp_path / "c.onnx")
    assert cli.main(["inspect", str(file), "--report", "report.json"]) == 2
    assert "--report: is for --node-data OUT" in capsys.readouterr().err
    assert cli.main(["inspect", str(file), "--node-data", str(file)]) == 2
    assert "--node-data: " in capsys.readouterr().err
