"""The five lines: import, quantize, export, validate, compare; and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import edgeship
from edgeship.core.errors import StorageError
from tests.api.conftest import DATA
from tests.api.test_quantized import INPUTS, small

pytestmark = pytest.mark.slow  # networks are converted

FEW = {"latency_launches": 1, "latency_runs": 3, "runtimes": ("keras", "litert", "onnxruntime")}


def test_importing_the_package_imports_no_framework() -> None:
    code = (
        "import sys, edgeship; "
        "print(sorted({'tensorflow', 'tf_keras', 'keras', 'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_front_door_is_there_and_described() -> None:
    assert sorted(edgeship.__all__) == dir(edgeship)
    for name in edgeship.__all__:
        assert name == "__version__" or getattr(edgeship, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'quantise_model'"):
        _ = edgeship.quantise_model


def test_the_files_agree_and_the_report_says_what_was_not_judged(bundle: edgeship.Bundle) -> None:
    report = bundle.validate(DATA, **FEW)
    assert (report.verdict, report.failures) == ("pass", ())
    assert report.not_judged == ("accuracy: no targets were given",)
    rows = {(row.artifact, row.runtime): row for row in report.rows}
    integer = rows["int8-ptq.onnx", "onnxruntime"]
    assert integer.coverage is not None and integer.coverage.promised_share == 1
    assert integer.parity is not None and integer.parity.max_lsb is not None and integer.parity.max_lsb <= 1
    assert integer.accuracy is None and integer.score is None
    # The other ONNX file is for x86 processors with VNNI; its layers are compared there alone.
    grid = next(item for item in report.to_dict()["grids"] if item["onnx"] == "int8-ptq.onnx")
    assert grid["layers_compared"] == grid["layers_total"] and grid["layer_max_lsb"] <= 1
    assert "not judged: accuracy: no targets were given" in str(report)
    assert "int8-ptq.tflite" in report._repr_html_() and report._repr_html_().startswith("<pre")


def test_a_metric_of_the_users_is_compared_with_float_example_by_example(
    bundle: edgeship.Bundle, model: Any, tmp_path: Any
) -> None:
    value, _ = model.predict(DATA, verbose=0)
    seen: list[int] = []

    def closeness(outputs: Any, targets: np.ndarray) -> np.ndarray:
        seen.append(len(outputs))
        return -np.abs(outputs[0][:, 0] - targets)

    targets = value[:, 0] + np.random.default_rng(0).normal(size=96)
    report = bundle.validate(DATA, targets, metric=closeness, **FEW)
    assert report.verdict == "pass" and report.not_judged == () and set(seen) == {2}
    scores = {(row.artifact, row.runtime): row.score for row in report.rows}
    reference, score = scores["float.keras", "keras"], scores["int8-ptq.tflite", "litert"]
    assert reference is not None and score is not None and score.float_value == reference.value
    assert reference.value == pytest.approx(-np.abs(value[:, 0] - targets).mean(), rel=1e-5)
    assert score.delta_ci95 is not None and score.delta_ci95[0] <= (score.delta or 0) <= score.delta_ci95[1]
    folder = report.save(tmp_path / "report")
    assert "closeness" in (folder / "report.md").read_text()
    with pytest.raises(StorageError, match=r"report\.md/report\.json: could not be written"):
        report.save(folder / "report.md")


def test_a_metric_that_gets_much_worse_fails(bundle: edgeship.Bundle) -> None:
    """The int8 files differ a little from float: a metric of exactly that difference finds them infinitely worse."""
    value = np.load(bundle.folder / "golden.npz")["float_outputs"]
    inputs = {name: array[: len(value)] for name, array in DATA.items()}

    def equal(outputs: Any, targets: np.ndarray) -> np.ndarray:
        return (np.abs(outputs[0][:, 0] - targets) < 1e-5).astype(float)

    report = bundle.validate(inputs, value[:, 0], metric=equal, **FEW)
    assert report.verdict == "fail"
    assert any("equal" in failure and "max_metric_change" in failure for failure in report.failures)


def test_two_files_are_compared_and_one_is_described_without_a_path(quantized: edgeship.QuantizedModel) -> None:
    content = quantized.convert("tflite")
    assert edgeship.inspect_file(bytearray(content)).form == "int8"
    assert edgeship.inspect_file(quantized.convert("onnx", scheme="float32")).form == "float32"
    compared = edgeship.compare_files(content, content, timing=False)
    assert compared.verdict == "pass" and "verdict: pass" in str(compared)
    assert "verdict: pass" in compared._repr_html_() and compared._repr_html_().startswith("<pre")


def test_nothing_is_printed_unless_asked_for(model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    edgeship.quantize_model(model, DATA)
    for _ in range(6):  # TensorFlow counts the models of a process, and warns of the fifth
        edgeship.quantize_model(small(), INPUTS)
    out, err = capfd.readouterr()
    assert out == "" and err == ""
    edgeship.quantize_model(model, DATA, keep_float=["value"], progress=lines.append).convert(progress=lines.append)
    # Each call is one line when it begins and one when it ends with what it made.
    assert [line.partition(":")[0] for line in lines] == ["quantize", "quantize", "convert", "convert"]
    assert "weighted layers quantized" in lines[1] and "int8-ptq.tflite" in lines[3]
    assert capfd.readouterr().out == ""
