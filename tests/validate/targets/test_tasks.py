"""Tasks that are not the classification of images, on an emulated Arm processor and in a browser: the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgeship
from tests.support import tasks
from tests.support.targets import needs_browser, needs_emulator

EXAMPLES = 40
# Wide bounds: what is asked here is whether each target answers as this machine does, not how good a network is.
FEW = {"latency_launches": 1, "latency_runs": 3, "max_accuracy_drop": 0.5, "max_metric_change": 0.5}
TASKS = {
    "regression": (tasks.regression, tasks.diabetes, "mean_absolute_error"),
    "segmentation": (tasks.segmentation, tasks.masks, "mean_iou"),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(task: str, tmp_path_factory: pytest.TempPathFactory) -> edgeship.Bundle:
    import tf_keras

    model, data, _ = TASKS[task]
    tf_keras.utils.set_random_seed(3)
    quantized = edgeship.quantize_model(model(), data()["train"][0][:200])
    return quantized.export(tmp_path_factory.mktemp(task) / "bundle", tflite_io=("int8", "float32"))


def rows_on(target: str, bundle: edgeship.Bundle, task: str) -> dict[str, Any]:
    """Return the rows of a target by the artifact's name, after checking that every row of the report is right."""
    _, data, metric = TASKS[task]
    inputs, targets = (part[:EXAMPLES] for part in data()["test"])
    report = bundle.validate(
        inputs, targets, metric=metric, runtimes=("keras", "litert", "onnxruntime"), on=("cpu", target), **FEW
    )
    assert not [row.error for row in report.rows if row.error]
    assert report.verdict == "pass", report.failures
    return {row.artifact: row for row in report.rows if row.target == target}


def check_integer_row(row: Any, steps: int) -> None:
    assert row.score is not None and row.score.value is not None
    assert row.parity.sibling.startswith(f"{row.artifact} / ") and row.parity.max_lsb <= steps


@needs_emulator
def test_an_emulated_processor_answers_as_this_machine(
    task: str, bundle: edgeship.Bundle, arm64_root: Path
) -> None:
    rows = rows_on("arm64:cortex-a53", bundle, task)
    assert set(rows) == {artifact.name for artifact in bundle.artifacts}
    for name in ("int8-ptq.tflite", "int8-ptq.onnx"):
        check_integer_row(rows[name], steps=1)
        assert rows[name].instructions > 0 and rows[name].latency is None and rows[name].coverage.share == 1


@needs_browser
def test_a_browser_answers_as_this_machine(task: str, bundle: edgeship.Bundle) -> None:
    rows = rows_on("browser", bundle, task)
    assert set(rows) == {artifact.name for artifact in bundle.artifacts} - {"int8-ptq.tflite"}
    for name in ("int8-ptq-float-io.tflite", "int8-ptq.onnx"):
        check_integer_row(rows[name], steps=1)
    assert rows["float32.onnx"].score is not None and rows["float32.tflite"].latency is not None
