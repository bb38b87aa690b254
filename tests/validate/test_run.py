from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.artifact import MANIFEST_FILE, manifest_from_json, manifest_to_json
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import BundleError
from edgeship.core.measurement import Report, Row
from edgeship.data import Images
from edgeship.validate.report.report import load_report, write_report
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle


def row_of(report: Report, artifact: str, runtime: str) -> Row:
    return next(row for row in report.rows if (row.artifact, row.runtime) == (artifact, runtime))


def test_a_good_bundle_passes_on_every_runtime(
    master_bundle: Path, test_images: Images, fast: ValidateConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(fast, runtimes=("keras", *fast.runtimes))
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    assert report.verdict == "pass", report.failures
    assert [(row.artifact, row.runtime) for row in report.rows] == [
        ("float.keras", "keras"), ("int8.tflite", "litert"), ("int8.tflite", "litert-reference"),
        ("int8.onnx", "onnxruntime"), ("int8.onnx", "onnxruntime-unoptimized"),
    ]
    assert all(row.error is None and row.latency and row.accuracy and row.parity for row in report.rows)
    assert all(row.peak_memory_bytes > 10_000_000 for row in report.rows)
    # Only what users run is profiled; the reference of the speed-ups has none itself.
    assert [row.profile is not None for row in report.rows] == [False, True, False, True, False]
    assert [row.latency.speedup_over for row in report.rows] == [None, *["float.keras / keras"] * 4]
    assert all(row.latency.speedup > 0 for row in report.rows[1:])
    assert "validate.latency_launches: a speed-up's 95 % interval needs 6 launches, found 1" in report.notes

    keras = row_of(report, "float.keras", "keras")
    assert keras.accuracy.delta is None
    # The same weights in the same library: only the summation order of another batch size differs.
    assert keras.parity.sqnr_db is None or keras.parity.sqnr_db > 100

    tflite, onnx = row_of(report, "int8.tflite", "litert"), row_of(report, "int8.onnx", "onnxruntime")
    assert tflite.coverage.share == onnx.coverage.share == 1.0
    assert tflite.coverage.per_channel == tflite.coverage.weighted == 2
    assert onnx.coverage.per_channel == onnx.coverage.weighted == 2
    assert tflite.parity.sibling == "int8.onnx / onnxruntime"
    assert onnx.parity.sibling == "int8.tflite / litert"
    assert tflite.parity.sqnr_db > 20

    # What the unoptimized graph computes is float between the quantizations, and is reported as such.
    assert row_of(report, "int8.onnx", "onnxruntime-unoptimized").coverage.share < 0.2

    (grid,) = report.grids
    assert (grid.mismatches, grid.error, grid.layers_compared) == ((), None, 5)
    assert grid.layer_max_lsb <= 1
    # Each file on its two runtimes, and what users run of the two files.
    assert len(report.agreements) == 3

    _check_evidence(report, test_images)
    write_report(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def _check_evidence(report: Report, test_images: Images) -> None:
    """Check what stands behind the figures: counts by class, changed answers, and what the files cost."""
    assert report.labels == ("rows", "columns", "checks")
    keras, tflite = report.rows[0], report.rows[1]
    assert report.float_classes == keras.classes and keras.changed is None
    for row in report.rows:
        assert sum(row.classes.examples) == sum(row.classes.answered) == len(test_images)
        assert sum(row.classes.right) == round(row.accuracy.top1 * len(test_images))
        assert sum(map(sum, row.classes.confusion)) == len(test_images)
    assert (tflite.changed.compared, tflite.deviations) == (len(test_images), None)
    assert tflite.changed.changed == round((1 - tflite.accuracy.agreement) * len(test_images))
    assert all(item.float_answer != item.answer for item in tflite.changed.examples)
    # 8x8 images: a 3x3 convolution of 1 to 8 channels, one of 8 to 8 with stride 2, and a dense layer of 8 to 3.
    macs = 8 * 8 * 8 * 9 + 4 * 4 * 8 * 8 * 9 + 8 * 3
    assert [(item.artifact, item.multiply_accumulates) for item in report.networks] == [
        ("int8.tflite", macs), ("int8.onnx", macs)
    ]
    assert {item.parameters for item in report.networks} == {8 * 9 + 8 + 8 * 8 * 9 + 8 + 8 * 3 + 3}
    # Input, and the first result: 64 + 512 bytes; then the first and the second result: 512 + 128.
    assert report.networks[0].arena_bytes == 640


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_a_truncated_file_is_a_row_with_an_error_and_the_run_goes_on(
    bundle_folder: Path, test_images: Images, fast: ValidateConfig, resign: Any, name: str
) -> None:
    path = bundle_folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    resign(bundle_folder)
    config = dataclasses.replace(fast, runtimes=("litert", "onnxruntime"))
    report = validate_bundle(load_bundle(bundle_folder), test_images, config)
    assert report.verdict == "fail"
    broken = [row for row in report.rows if row.artifact == name]
    assert broken and all(row.error and row.accuracy is None and row.latency is None for row in broken)
    others = [row for row in report.rows if row.artifact != name]
    assert others and all(row.error is None and row.accuracy and row.latency for row in others)
    assert any(name in failure for failure in report.failures)
    assert "float Keras did not run here" in report.notes[0]


def test_outputs_that_are_not_numbers_are_an_error_row(
    bundle_folder: Path, test_images: Images, fast: ValidateConfig, resign: Any
) -> None:
    (bundle_folder / "int8.onnx").write_bytes(_model_that_answers_nan())
    _declare_float(bundle_folder / "manifest.json", "int8.onnx")
    resign(bundle_folder)
    config = dataclasses.replace(fast, runtimes=("onnxruntime",))
    report = validate_bundle(load_bundle(bundle_folder), test_images, config)
    (row,) = report.rows
    assert "expected finite outputs, found NaN or infinity for 6 of 6 examples" in row.error
    assert report.verdict == "fail"


def _model_that_answers_nan() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=(1, 2), keepdims=0),
            helper.make_node("Add", ["mean", "nan"], ["probabilities"]),
        ],
        "nan",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 8, 8, 1))],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.full((1, 3), np.nan, np.float32), "nan")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


def _declare_float(path: Path, name: str) -> None:
    manifest = manifest_from_json(path.read_text(), where=path)
    artifacts = []
    for item in manifest.artifacts:
        if item.name == name:
            (image,), (probabilities,) = (
                [dataclasses.replace(spec, dtype="float32", scale=None, zero_point=None) for spec in specs]
                for specs in (item.inputs, item.outputs)
            )
            item = dataclasses.replace(
                item, same_grid_as=None, scheme="float32", inputs=(image,), outputs=(probabilities,)
            )
        artifacts.append(item)
    path.write_text(manifest_to_json(dataclasses.replace(manifest, artifacts=tuple(artifacts))))


def test_other_images_than_the_exported_ones_are_refused(
    master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    bundle = load_bundle(master_bundle)
    with pytest.raises(BundleError, match=r"expected the test split of 90 images .* found 89"):
        validate_bundle(bundle, test_images.select(np.arange(89)), fast)
    with pytest.raises(BundleError, match="other images, labels or order"):
        validate_bundle(bundle, test_images.select(np.arange(90)[::-1]), fast)


def test_images_takes_the_first_ones_and_says_so(
    master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    config = dataclasses.replace(fast, runtimes=("litert",), images=12)
    report = validate_bundle(load_bundle(master_bundle), test_images, config)
    assert report.rows[0].accuracy.images == 12
    assert any("only the first 12 of 90" in note for note in report.notes)
    assert any("int8.onnx: not run" in note for note in report.notes)


def test_nothing_to_run_is_refused(
    master_bundle: Path, test_images: Images, fast: ValidateConfig
) -> None:
    report = validate_bundle(load_bundle(master_bundle), test_images, dataclasses.replace(fast, runtimes=()))
    assert (report.verdict, report.rows) == ("refused", ())


def test_starting_imports_no_tensorflow_and_no_runtime() -> None:
    script = (
        "import sys\n"
        "import edgeship.validate.run, edgeship.validate.report.report, edgeship.validate.report.terminal\n"
        "heavy = {'tensorflow', 'tf_keras', 'onnx', 'onnxruntime', 'ai_edge_litert', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("same_processor", [True, False])
def test_other_golden_outputs_on_the_processor_of_the_export_mean_another_file(
    bundle_folder: Path, test_images: Images, fast: ValidateConfig, resign: Any, same_processor: bool
) -> None:
    arrays = dict(np.load(bundle_folder / "golden.npz"))
    expected = arrays["expected/int8.tflite"]
    expected[0, 0] += 1 if expected[0, 0] < 127 else -1
    np.savez(bundle_folder / "golden.npz", **arrays)
    resign(bundle_folder)
    if not same_processor:
        path = bundle_folder / MANIFEST_FILE
        manifest = manifest_from_json(path.read_text(), where=path)
        elsewhere = {"cpu_model": "another", "cpu_flags_sha256": "0" * 64}
        path.write_text(manifest_to_json(dataclasses.replace(manifest, exported_on=elsewhere)))
    config = dataclasses.replace(fast, runtimes=("litert", "litert-reference"))
    report = validate_bundle(load_bundle(bundle_folder), test_images, config)
    production, reference = report.rows
    assert reference.error is None  # the reference kernels round in their own way
    if same_processor:
        assert report.verdict == "fail" and not production.refused
        assert "up to 1 LSB away from the golden outputs of the export, on the same processor" in production.error
    else:
        assert production.error is None
        assert any("up to 1 LSB away from the golden outputs" in note for note in report.notes)


def test_kernels_that_compute_something_else_are_stopped_at_the_golden_images(
    bundle_folder: Path, test_images: Images, fast: ValidateConfig, resign: Any
) -> None:
    arrays = dict(np.load(bundle_folder / "golden.npz"))
    arrays["expected/int8.tflite"] = np.roll(arrays["expected/int8.tflite"], 1, axis=1)
    np.savez(bundle_folder / "golden.npz", **arrays)
    resign(bundle_folder)
    report = validate_bundle(load_bundle(bundle_folder), test_images, dataclasses.replace(fast, runtimes=("litert",)))
    assert "of the 6 golden examples are given another class than at the export" in report.rows[0].error
    assert report.rows[0].accuracy is None and report.verdict == "fail"
