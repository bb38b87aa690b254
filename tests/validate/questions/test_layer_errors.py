"""A file that is broken on purpose: the layer that was broken is named, in both formats; a healthy one names none."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.artifact import MANIFEST_FILE, manifest_from_json, manifest_to_json
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import LayerError, LayerErrors
from edgeship.export.tflite.names import pack
from edgeship.validate.questions.layer_errors import first_bad_layer, measure_layer_errors
from edgeship.validate.report.layer_columns import layer_cells, layer_sentence
from edgeship.validate.report.markdown import report_to_markdown
from edgeship.validate.report.report import load_report, write_report
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle

SCHEME = "int8-ptq"
# In the order in which they run.
LAYERS = (
    "stem_conv", "stem_pool", "stage1_unit1_conv1", "stage1_unit1_conv2", "stage1_unit1_relu", "stage2_unit1_conv1",
    "stage2_unit1_conv2", "stage2_unit1_skip_conv", "stage2_unit1_relu", "head_pool", "probabilities/fully_connected",
    "probabilities",
)
CONFIG = ValidateConfig(
    runtimes=("litert", "onnxruntime"), latency_launches=1, latency_runs=1, latency_seconds=0.1, images=40,
    # 40 images of a hardly trained network: only what is broken on purpose is to fail.
    max_accuracy_drop=0.3,
)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def keep(folder: Path, *names: str) -> None:
    """Leave the other artifacts out of the manifest."""
    manifest = manifest_from_json((folder / MANIFEST_FILE).read_text(), where=folder)
    kept = tuple(item for item in manifest.artifacts if item.name in names)
    (folder / MANIFEST_FILE).write_text(manifest_to_json(dataclasses.replace(manifest, artifacts=kept)))


def measure(folder: Path, *names: str) -> tuple[LayerErrors, ...]:
    return measure_layer_errors(load_bundle(folder), names, timeout_seconds=60)


def change_tflite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite quantization parameters, given by tensor name."""
    file = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change({tensor.name.decode(): tensor.quantization for tensor in file.subgraphs[0].tensors})
    path.write_bytes(pack(file))


def change_onnx(path: Path, kind: str, tensor: str, position: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrite the scale (1) or zero point (2) that the operations of `kind` on a tensor have; elsewhere it stays."""
    model = onnx.load(path)
    constants = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == kind and tensor in (node.input[0], node.output[0]):
            old = numpy_helper.to_array(constants[node.input[position]])
            node.input[position] = f"{node.name}/changed"
            model.graph.initializer.append(numpy_helper.from_array(change(old).astype(old.dtype), node.input[position]))
    path.write_bytes(model.SerializeToString())


def scale_weights(path: Path, layer: str) -> None:
    """The weights of a layer stand for numbers three times as large: noise of four times the signal, -6 dB."""
    kernel = f"{layer}/kernel"
    if path.suffix == ".tflite":
        def change(grids: dict[str, Any]) -> None:
            grids[kernel].scale = np.float32(3) * grids[kernel].scale
        change_tflite(path, change)
    else:
        change_onnx(path, "DequantizeLinear", kernel, 1, lambda scale: scale * 3)


@pytest.mark.parametrize("name", [f"{SCHEME}.tflite", f"{SCHEME}.onnx", f"{SCHEME}-float-io.tflite"])
def test_a_healthy_file_has_no_bad_layer(tiny_bundle: Path, name: str) -> None:
    (table,) = measure(tiny_bundle, name)
    assert (table.artifact, table.reference) == (name, f"float32{Path(name).suffix}")
    assert (table.first_bad, table.not_compared, table.error, table.images) == (None, (), None, 4)
    assert tuple(item.layer.removesuffix("_quantized") for item in table.layers) == LAYERS
    for item in table.layers:
        assert item.sqnr_db is not None and item.sqnr_db > 20, item
        assert 0 < item.max_lsb < 256 and item.saturated < 0.01, item


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_an_input_of_a_bad_range_is_not_blamed_on_the_layer_that_reads_it(two_ends_bundle: Path, suffix: str) -> None:
    """Of two inputs only one has a range a thousand times too wide (the fixture): what reads the other one is well."""
    (table,) = measure(two_ends_bundle, f"{SCHEME}{suffix}")
    found = {item.layer.split("/")[0]: item for item in table.layers}
    assert (table.error, table.first_bad, table.images) == (None, None, 4)
    assert found["features"].sqnr_db > 30 and found["a_map"].sqnr_db > 30
    assert found["hidden"].sqnr_db is None or found["hidden"].sqnr_db < 10


def test_a_fused_relu_is_found_in_the_onnx_file(tiny_bundle: Path) -> None:
    (table,) = measure(tiny_bundle, f"{SCHEME}.onnx")
    found = {item.layer: (item.kind, item.float_result) for item in table.layers}
    assert found["stem_conv"] == ("Conv", "stem_conv/Relu")
    assert found["stage1_unit1_conv2"] == ("Conv", "stage1_unit1_conv2")
    assert found["probabilities/fully_connected"] == ("Gemm", "probabilities/Gemm")
    assert found["head_pool"][0] == "GlobalAveragePool"  # behind the Squeeze


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("layer", ["stem_conv", "stage1_unit1_conv2", "stage2_unit1_conv1", "stage2_unit1_skip_conv"])
def test_the_layer_whose_weights_are_wrong_is_named(bundle: Path, resign: Any, layer: str, suffix: str) -> None:
    scale_weights(bundle / f"{SCHEME}{suffix}", layer)
    resign(bundle)
    (table,) = measure(bundle, f"{SCHEME}{suffix}")
    assert table.first_bad == layer
    before = table.layers[: [item.layer for item in table.layers].index(layer)]
    assert all(item.sqnr_db is not None and item.sqnr_db > 20 for item in before)
    assert f"first bad layer is {layer}" in layer_sentence(table)
    assert [cells[0] for cells in layer_cells(table) if cells[-1]] == [layer]


def test_a_range_that_is_shifted_in_the_tflite_file_saturates(bundle: Path, resign: Any) -> None:
    layer = "stage1_unit1_conv2"

    def change(grids: dict[str, Any]) -> None:
        grids[layer].zeroPoint = [125]  # all that is above 2 steps is cut off

    change_tflite(bundle / f"{SCHEME}.tflite", change)
    resign(bundle)
    (table,) = measure(bundle, f"{SCHEME}.tflite")
    assert table.first_bad == layer
    bad = next(item for item in table.layers if item.layer == layer)
    assert bad.saturated > 0.2 and bad.max_lsb > 50  # about half of the values are positive
    assert all(item.saturated < 0.01 for item in table.layers[:3])


def test_a_zero_point_that_one_onnx_node_has_wrong_names_the_layer_that_reads_it(bundle: Path, resign: Any) -> None:
    """The tensor itself is as its maker means it; what reads it takes it for something else."""
    change_onnx(bundle / f"{SCHEME}.onnx", "DequantizeLinear", "stage2_unit1_conv1", 2, lambda zero: zero + 90)
    resign(bundle)
    (table,) = measure(bundle, f"{SCHEME}.onnx")
    assert table.first_bad == "stage2_unit1_conv2"


def test_what_cannot_be_measured_says_why(bundle: Path, master_bundle: Path) -> None:
    (table,) = measure(bundle, f"{SCHEME}.ort")
    assert table.error == "not measured: no runtime tells the single results of an .ort file"
    keep(bundle, "float32.tflite", f"{SCHEME}.tflite", f"{SCHEME}.onnx")
    tflite, onnx_table = measure(bundle, f"{SCHEME}.onnx", f"{SCHEME}.tflite")
    assert (tflite.error, len(tflite.layers)) == (None, len(LAYERS))
    assert (onnx_table.error, onnx_table.layers) == ("not measured: no float32.onnx in the bundle", ())
    assert layer_sentence(onnx_table) == "not measured: no float32.onnx in the bundle"
    assert [table.error for table in measure(master_bundle, "int8.tflite", "int8.onnx")] == [
        "not measured: no float32.tflite in the bundle", "not measured: no float32.onnx in the bundle",
    ]


def test_files_that_break_the_comparison_are_an_error_in_its_place(bundle: Path, resign: Any) -> None:
    change_onnx(bundle / f"{SCHEME}.onnx", "QuantizeLinear", "stem_conv", 1, lambda scale: scale * np.nan)
    float_file = bundle / "float32.tflite"
    content = schema.ModelT.InitFromPackedBuf(float_file.read_bytes(), 0)
    kernel = next(item for item in content.subgraphs[0].tensors if item.name == b"stage1_unit1_conv1/kernel")
    weights = content.buffers[kernel.buffer]
    weights.data = np.full(len(weights.data) // 4, np.nan, "<f4").tobytes()
    float_file.write_bytes(pack(content))
    (bundle / f"{SCHEME}-s8s8.onnx").write_bytes(b"\x08")
    resign(bundle)
    tflite, broken_scale, broken_file = measure(
        bundle, f"{SCHEME}.tflite", f"{SCHEME}.onnx", f"{SCHEME}-s8s8.onnx"
    )
    assert tflite.error == (
        "not measured: stage1_unit1_conv1: expected finite numbers in the float file, found NaN or infinity"
    )
    assert broken_scale.error == "not measured: stem_conv: expected a scale above 0, found nan"
    assert "int8-ptq-s8s8.onnx: expected an ONNX model" in str(broken_file.error)


def layer(name: str, db: float | None, *, kind: str = "CONV_2D", max_lsb: float = 9.0) -> LayerError:
    return LayerError(layer=name, float_result=name, kind=kind, sqnr_db=db, max_lsb=max_lsb, saturated=0.0)


CHAIN = {"a": ("image",), "b": ("a",), "c": ("b",)}


@pytest.mark.parametrize(("figures", "bad"), [
    ((35, 30, 25), None),
    ((19, 12, 5), None),  # lost little by little, from an input of 25 dB on
    ((35, 12, 10), "b"),
    ((35, 21, 10), "c"),  # "b" is no worse than 20 dB
    ((35, 12, 28), None),  # what reads "b" does not show it, so it is another value of the same name
    ((35, 2, 15), None),  # nor does what is 13 dB better, however bad
    ((None, 30, 5), "c"),
])
def test_a_bad_layer_is_much_worse_than_what_it_reads(figures: tuple[float | None, ...], bad: str | None) -> None:
    layers = [layer(name, db, max_lsb=0.0 if db is None else 9.0) for name, db in zip(CHAIN, figures, strict=True)]
    given = 25.0 if figures[0] == 19 else math.inf
    assert first_bad_layer(layers, CHAIN, {"image": given}) == bad


def test_a_sum_may_hide_what_is_added_and_the_worst_input_counts() -> None:
    reads = {"a": ("image",), "b": ("image",), "sum": ("a", "b"), "c": ("sum",)}
    figures = {"a": layer("a", 35), "b": layer("b", 0), "sum": layer("sum", 14, kind="ADD"), "c": layer("c", 13)}
    assert first_bad_layer(list(figures.values()), reads, {"image": 40.0}) == "b"
    product = {**figures, "sum": layer("sum", 14, kind="MUL")}
    assert first_bad_layer(list(product.values()), reads, {"image": 40.0}) is None


def test_the_report_has_tables_of_the_failing_artifacts(
    bundle: Path, tiny_pipeline: Pipeline, resign: Any, tmp_path: Path
) -> None:
    scale_weights(bundle / f"{SCHEME}.onnx", "stage2_unit1_conv1")
    keep(bundle, "float32.tflite", "float32.onnx", f"{SCHEME}.tflite", f"{SCHEME}.onnx", "int8-qat.tflite")
    resign(bundle)
    report = validate_bundle(load_bundle(bundle), tiny_pipeline.splits.test, CONFIG)
    assert report.verdict == "fail"
    tables = {table.artifact: table for table in report.layer_errors}
    # Both files of the pair that should be one; not the one that passes.
    assert set(tables) == {f"{SCHEME}.tflite", f"{SCHEME}.onnx"}
    assert tables[f"{SCHEME}.tflite"].first_bad is None
    assert tables[f"{SCHEME}.onnx"].first_bad == "stage2_unit1_conv1"
    write_report(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report
    text = report_to_markdown(report)
    assert "## Integer against float, layer by layer" in text
    assert "int8-ptq.onnx against float32.onnx, 4 examples: first bad layer is stage2\\_unit1\\_conv1 (Conv)" in text
    assert text.count("| first bad layer |") == 1


def test_every_integer_artifact_has_a_table_where_it_was_asked_for(bundle: Path, tiny_pipeline: Pipeline) -> None:
    keep(bundle, "float32.tflite", f"{SCHEME}.tflite", "int8-qat.tflite")
    config = dataclasses.replace(CONFIG, runtimes=("litert",), images=5, max_accuracy_drop=1.0)
    test = tiny_pipeline.splits.test
    report = validate_bundle(load_bundle(bundle), test, config, layers=True)
    assert [table.artifact for table in report.layer_errors] == [f"{SCHEME}.tflite", "int8-qat.tflite"]
    assert all(table.layers and table.first_bad is None for table in report.layer_errors)
    assert validate_bundle(load_bundle(bundle), test, config).layer_errors == ()


def test_an_artifact_with_other_golden_outputs_has_a_table_although_its_row_is_an_error(
    bundle: Path, tiny_pipeline: Pipeline, resign: Any
) -> None:
    keep(bundle, "float32.tflite", f"{SCHEME}.tflite")
    scale_weights(bundle / f"{SCHEME}.tflite", "stage1_unit1_conv1")
    resign(bundle)
    config = dataclasses.replace(CONFIG, runtimes=("litert",))
    report = validate_bundle(load_bundle(bundle), tiny_pipeline.splits.test, config)
    (row,) = (row for row in report.rows if row.artifact == f"{SCHEME}.tflite")
    assert "golden" in str(row.error)
    assert [table.first_bad for table in report.layer_errors] == ["stage1_unit1_conv1"]
