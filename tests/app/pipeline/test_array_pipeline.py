"""Any task from a configuration: the float training, the integers, both files, the proof."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.app.cli.main import main
from edgeship.core.measurement import Row
from edgeship.validate.report.report import load_report
from tests.support import tasks

TOML = """
[data]
factory = "{module}:{data}"
calibration_images = 200

[model]
factory = "{module}:{model}"

[train]
epochs = {epochs}
learning_rate = 0.01

[quantize]
schemes = ["{scheme}"]
epochs = 2
learning_rate = 0.001

[export]
onnx_variants = ["u8u8"]

[validate]
runtimes = ["keras", "litert", "onnxruntime"]
latency_launches = 1
latency_runs = 3
{metric}
"""


def configured(
    folder: Path, *, scheme: str = "int8-ptq", epochs: int = 8, metric: str | None = None, **names: str
) -> Path:
    module = f"tasks_{folder.name.replace('-', '_')}"  # a name of its own: other tests import their copies too
    shutil.copy(tasks.__file__, folder / f"{module}.py")
    path = folder / "task.toml"
    line = "" if metric is None else f'metric = "{metric.replace("tasks:", module + ":")}"'
    path.write_text(TOML.format(module=module, scheme=scheme, epochs=epochs, metric=line, **names))
    return path


def rows(folder: Path) -> dict[tuple[str, str], Row]:
    report = load_report(folder / "out" / "report.json")
    return {(row.artifact, row.runtime): row for row in report.rows}


@pytest.mark.parametrize(("data", "model", "metric", "least"), [
    ("digits", "logits", "top1", 0.85),
    ("properties", "multi_label", "binary_accuracy", 0.85),
    ("anomalies", "autoencoder", "reconstruction_auc", 0.85),
    ("masks", "segmentation", "mean_iou", 0.6),
    ("masks", "one_channel", "mean_iou", 0.6),
    ("parity", "one_logit", "binary_accuracy_of_logits", 0.85),
    ("waves", "sequence", "top1", 0.8),
])
def test_a_task_goes_all_the_way(tmp_path: Path, data: str, model: str, metric: str, least: float) -> None:
    path = configured(tmp_path, data=data, model=model, metric=metric)
    code = main(["run", str(path), "--out", str(tmp_path / "out")])
    report = load_report(tmp_path / "out" / "report.json")
    # 400 examples cannot prove two points: inconclusive for accuracy alone is right too.
    assert code in (0, 3), report.failures
    assert all("too wide to decide" in failure for failure in report.failures)
    found = rows(tmp_path)
    for artifact, runtime in (("int8-ptq.tflite", "litert"), ("int8-ptq.onnx", "onnxruntime")):
        row = found[artifact, runtime]
        value = row.accuracy.top1 if row.accuracy is not None else row.score.value if row.score is not None else 0
        assert value >= least
        assert row.coverage is not None and row.coverage.promised_share == 1
    (grid,) = report.grids
    assert grid.mismatches == () and grid.layers_compared == grid.layers_total
    assert grid.layer_max_lsb is not None and grid.layer_max_lsb <= 1


def test_one_scale_per_kernel_goes_all_the_way(tmp_path: Path) -> None:
    path = configured(tmp_path, data="digits", model="logits", metric="top1", scheme="int8-qat")
    path.write_text(path.read_text().replace("[quantize]", '[quantize]\nweight_scales = "per-tensor"'))
    code = main(["run", str(path), "--out", str(tmp_path / "out")])
    report = load_report(tmp_path / "out" / "report.json")
    assert code in (0, 3), report.failures
    assert all("too wide to decide" in failure for failure in report.failures)
    assert report.quantization["int8-qat"].weight_scales == "per-tensor"
    for row in report.rows:
        coverage = row.coverage
        if coverage is not None and row.scheme == "int8-qat":
            assert coverage.weighted and coverage.per_channel == 0 and coverage.weight_scales == "per-tensor"


def test_regression_is_trained_through_the_quantization_and_a_smaller_error_is_better(tmp_path: Path) -> None:
    path = configured(
        tmp_path, data="diabetes", model="regression", metric="mean_absolute_error", scheme="int8-qat", epochs=30
    )
    code = main(["run", str(path), "--out", str(tmp_path / "out")])
    report = load_report(tmp_path / "out" / "report.json")
    assert code in (0, 3), report.failures
    score = rows(tmp_path)["int8-qat.onnx", "onnxruntime"].score
    assert score is not None and not score.higher_is_better and score.value < 0.7  # in hundreds; the mean alone: 0.66
    # The same command again does nothing; another metric is measured again, on the same files.
    before = (tmp_path / "out" / "bundle" / "int8-qat.tflite").stat().st_mtime_ns
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == code
    assert (tmp_path / "out" / "bundle" / "int8-qat.tflite").stat().st_mtime_ns == before


def test_detection_heads_with_a_metric_of_the_users_and_the_bundle_validated_again(tmp_path: Path) -> None:
    path = configured(tmp_path, data="corners", model="detection", metric="tasks:closeness", epochs=0)
    code = main(["run", str(path), "--out", str(tmp_path / "out")])
    report = load_report(tmp_path / "out" / "report.json")
    assert code in (0, 3), report.failures
    assert len(report.rows[0].artifact) and all(row.score is not None for row in report.rows)
    manifest = json.loads((tmp_path / "out" / "bundle" / "manifest.json").read_text())
    assert [item["name"] for item in manifest["artifacts"][0]["outputs"]] == ["middle", "scores"]
    bundle = str(tmp_path / "out" / "bundle")
    assert main(["validate", bundle]) == 2  # a bundle does not have the arrays
    assert main(["validate", bundle, "--data", str(path), "--images", "40", "--out", str(tmp_path / "again")]) in (0, 3)


def test_without_targets_parity_is_judged_and_accuracy_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"test_inputs": tasks.PICTURES[:100], "calibration_inputs": tasks.PICTURES[100:300]}
    np.savez(tmp_path / "data.npz", **arrays)
    path = configured(tmp_path, data="digits", model="logits", epochs=0)
    text = path.read_text().replace("calibration_images = 200", "")
    first = next(line for line in text.splitlines() if line.startswith("factory"))
    path.write_text(text.replace(first, 'name = "arrays"\npath = "data.npz"', 1))
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "not judged: accuracy: no targets were given" in capsys.readouterr().out


def test_what_integers_cannot_compute_is_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(tmp_path, data="waves", model="sequence", metric="top1")
    module = next(tmp_path.glob("tasks_*.py"))
    module.write_text(module.read_text().replace('"causal", activation="relu"', '"causal", activation="gelu"'))
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "integers cannot compute" in said and "gelu" in said and "in the first epoch" not in said


@pytest.mark.parametrize(("changes", "message"), [
    ({"data": "nothing"}, "data.factory: .*:nothing: expected a function without arguments"),
    ({"data": "digits", "model": "regression"}, r"data.factory: .*: train: expected facts: float32 \(n, 10\), found"),
    ({"data": "digits", "metric": "accuracy"}, "metric: expected one of top1, .* found 'accuracy'"),
    ({"data": "digits", "metric": "tasks:nothing"}, "metric: expected a function 'nothing' in a module"),
    ({"data": "corners", "model": "detection", "metric": "tasks:closeness"},
     "train.loss: expected the name of a Keras loss, since validate.metric = 'tasks.*:closeness' tells none; set it, "),
    ({"data": "digits"}, r"since there is no validate.metric to tell it; set it, or a validate.metric .*\(top1, "),
    ({"data": "digits", "metric": "binary_accuracy"}, r"binary_accuracy: expected (probabilities|targets of)"),
    ({"data": "masks", "model": "segmentation", "metric": "auc"}, "metric auc: expected one score per example"),
    ({"data": "digits", "metric": "tasks:one_logit", "epochs": 0}, "one_logit failed: TypeError: .*; correct the func"),
], ids=range(9))
def test_what_does_not_fit_is_refused_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    path = configured(tmp_path, **{"model": "logits", **changes})
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and "in the first epoch" not in said


def test_logits_are_not_scored_as_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The outputs of an untrained network may lie between 0 and 1, so this can come to light after the training alone.
    path = configured(tmp_path, data="parity", model="one_logit", metric="binary_accuracy")
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "of logits the metrics are called binary_accuracy_of_logits" in capsys.readouterr().err
