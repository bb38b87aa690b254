from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeship.core.measurement import Grid
from edgeship.graph import read_graph
from edgeship.graph.differences import compare
from edgeship.graph.matching import match
from edgeship.validate.probes.layers import channels_first_tensors
from edgeship.validate.questions.grid import measure_grids
from edgeship.validate.subject.bundle import load_bundle


def change_constants(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """Rewrite the constants of the bundle's ONNX file."""
    model = onnx.load(folder / "int8.onnx")
    for constant in model.graph.initializer:
        values = change(constant.name, numpy_helper.to_array(constant).copy())
        constant.CopyFrom(numpy_helper.from_array(values.astype(numpy_helper.to_array(constant).dtype), constant.name))
    (folder / "int8.onnx").write_bytes(model.SerializeToString())


def measure(folder: Path, tmp_path: Path, resign: Any) -> Grid:
    resign(folder)
    (grid,) = measure_grids(load_bundle(folder), timeout_seconds=60, folder=tmp_path)
    return grid


def test_one_weight_that_differs_is_found_twice(bundle_folder: Path, tmp_path: Path, resign: Any) -> None:
    kernel = next(
        item.inputs[1] for item in read_graph(bundle_folder / "int8.tflite").operations if item.kind == "CONV_2D"
    )

    def change(name: str, values: np.ndarray) -> np.ndarray:
        if name == kernel:
            values.reshape(-1)[4] ^= 64
        return values

    change_constants(bundle_folder, change)
    grid = measure(bundle_folder, tmp_path, resign)
    assert grid.mismatches == (f"{kernel}: other integers in the ONNX file",)
    assert grid.layer_max_lsb > 1 and grid.worst_layer.startswith("Transpose+Conv+Relu")


def test_scales_zero_points_and_missing_names(bundle_folder: Path) -> None:
    tflite = read_graph(bundle_folder / "int8.tflite")
    mean = next(item.outputs[0] for item in tflite.operations if item.kind == "MEAN")
    dense = next(item.outputs[0] for item in tflite.operations if item.kind == "FULLY_CONNECTED")

    def change(name: str, values: np.ndarray) -> np.ndarray:
        if name == f"{mean}/scale":
            return np.nextafter(values, np.float32(1))  # one step of float32 is a difference
        return values + 1 if name == f"{dense}/zero" else values

    change_constants(bundle_folder, change)
    onnx_graph = read_graph(bundle_folder / "int8.onnx")
    found = compare(tflite, onnx_graph, match(tflite, onnx_graph))
    assert found.compared == sum(tensor.scales is not None for tensor in tflite.tensors.values())
    assert any(line.startswith(f"{mean}: scale ") for line in found.differences)
    assert any(line.startswith(f"{dense}: zero point ") and "(both as int8)" in line for line in found.differences)
    assert all(line.startswith((f"{mean}: scale ", f"{dense}: zero point ")) for line in found.differences)
    assert found.not_compared == ()


def test_a_network_of_two_inputs_and_two_outputs(two_ends_bundle: Path, tmp_path: Path) -> None:
    (grid,) = measure_grids(load_bundle(two_ends_bundle), timeout_seconds=60, folder=tmp_path)
    assert (grid.mismatches, grid.not_compared, grid.error) == ((), (), None)
    assert grid.layers_compared == grid.layers_total > 4 and grid.layer_max_lsb <= 1


def rename(folder: Path, change: Callable[[str], str]) -> None:
    """Rename every tensor of the bundle's ONNX file, its inputs and outputs aside."""
    model = onnx.load(folder / "int8.onnx")
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in ends or not name else change(name) for name in names]
    for constant in model.graph.initializer:
        constant.name = change(constant.name)
    (folder / "int8.onnx").write_bytes(model.SerializeToString())


def test_names_do_not_matter(bundle_folder: Path, tmp_path: Path, resign: Any) -> None:
    before = measure(bundle_folder, tmp_path, resign)
    rename(bundle_folder, lambda name: f"other/{name[::-1]}")
    grid = measure(bundle_folder, tmp_path, resign)
    assert (grid.mismatches, grid.not_compared, grid.error) == ((), (), None)
    assert grid.tensors_compared == before.tensors_compared
    assert (grid.layers_compared, grid.layers_total) == (before.layers_compared, before.layers_total)


def test_a_layer_that_cannot_be_cut_out_is_not_compared_and_no_failure(
    bundle_folder: Path, tmp_path: Path, resign: Any
) -> None:
    """Its inputs are floats that the TFLite file does not have: the first layer computes from a float image."""
    model = onnx.load(bundle_folder / "int8.onnx")
    first = model.graph.input[0].name
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.input[0].name = "picture"
    model.graph.node.insert(0, helper.make_node("Cast", ["picture"], [first], to=onnx.TensorProto.UINT8))
    (bundle_folder / "int8.onnx").write_bytes(model.SerializeToString())
    grid = measure(bundle_folder, tmp_path, resign)
    assert (grid.error, grid.mismatches) == (None, ())
    assert grid.layers_compared > 0


def test_without_the_onnx_package_it_is_not_measured(
    master_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    (grid,) = measure_grids(load_bundle(master_bundle), timeout_seconds=60, folder=tmp_path)
    assert grid.error == "not measured: install onnx to compare the two files"
    assert (grid.tensors_compared, grid.layers_compared) == (0, None)


def test_layouts_spread_where_shapes_cannot_tell() -> None:
    """(1, 4, 4, 4) everywhere: the convolution says which tensors are NCHW, the transposes where that ends."""
    value = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 4, 4, 4))
    graph = helper.make_graph([
        helper.make_node("Transpose", ["image"], ["first"], perm=(0, 3, 1, 2)),
        helper.make_node("Conv", ["first", "weights"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Add", ["relu", "skip"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["last"], perm=(0, 2, 3, 1)),
        helper.make_node("Relu", ["last"], ["end"]),
        helper.make_node("Relu", ["source"], ["skip"]),
    ], "layouts", [value], [])
    assert channels_first_tensors(graph, {"weights": None}) == {"first", "conv", "relu", "skip", "source", "sum"}
