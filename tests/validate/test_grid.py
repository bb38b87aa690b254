from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeship.graph import read_graph
from edgeship.measurement import Grid
from validate.bundle import load_bundle
from validate.grid import compare_tensors, measure_grids
from validate.runtimes.layers import channels_first_tensors


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
    count, mismatches = compare_tensors(tflite, read_graph(bundle_folder / "int8.onnx"))
    assert count == sum(tensor.scales is not None for tensor in tflite.tensors.values())
    assert len(mismatches) == 2
    assert any(line.startswith(f"{mean}: scale ") for line in mismatches)
    assert any(line.startswith(f"{dense}: zero point ") and "(both as int8)" in line for line in mismatches)

    other = read_graph(bundle_folder / "int8.onnx")
    renamed = dataclasses.replace(other, tensors={f"{name}_": item for name, item in other.tensors.items()})
    count, mismatches = compare_tensors(tflite, renamed)
    assert len(mismatches) == count and all(line.endswith("not in the ONNX file") for line in mismatches)


def test_a_layer_that_cannot_be_cut_out_is_an_error(bundle_folder: Path, tmp_path: Path, resign: Any) -> None:
    model = onnx.load(bundle_folder / "int8.onnx")
    first = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["picture" if name == first else name for name in node.input]
    model.graph.input[0].name = "picture"
    (bundle_folder / "int8.onnx").write_bytes(model.SerializeToString())
    grid = measure(bundle_folder, tmp_path, resign)
    assert grid.layers_compared == 4
    assert "1 layers could not be run alone" in grid.error and "needs 'picture'" in grid.error


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
