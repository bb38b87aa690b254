"""The form of the output through the whole pipeline: many faint classes, and two sure ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from edgeship.app.cli.main import main
from edgeship.app.pipeline.output_record import read_output
from edgeship.core.artifact import manifest_from_json
from edgeship.validate.report.report import load_report
from tests.support import faint_classes

TOML = """
[data]
factory = "{module}:examples_of_{task}"
[model]
factory = "{module}:model_of_{task}"
[train]
epochs = 0
[quantize]
schemes = ["int8-ptq", "int8-qat"]
epochs = 1
[export]
output = "{output}"
[validate]
metric = "top1"
runtimes = ["keras", "litert", "onnxruntime"]
latency_launches = 1
latency_runs = 3
"""


def configured(folder: Path, task: str, output: str) -> Path:
    module = f"faint_{folder.name.replace('-', '_')}"
    shutil.copy(faint_classes.__file__, folder / f"{module}.py")
    path = folder / "task.toml"
    path.write_text(TOML.format(module=module, task=task, output=output))
    return path


@pytest.mark.parametrize(("task", "asked", "chosen", "least"), [
    ("many", "auto", "float-probabilities", 0.99),
    ("many", "logits", "logits", 0.99),
    ("two", "auto", "probabilities", 0.99),
])
def test_answers_are_right_in_every_row(tmp_path, task, asked, chosen, least):
    """An untrained int8 softmax of 1,000 faint classes had 0.1 %: every code is 0, and the first class wins."""
    path = configured(tmp_path, task, asked)
    code = main(["run", str(path), "--out", str(tmp_path / "out")])
    report = load_report(tmp_path / "out" / "report.json")
    assert code in (0, 3), report.failures
    assert read_output(tmp_path / "out" / "output.json") == chosen
    manifest_file = tmp_path / "out" / "bundle" / "manifest.json"
    assert manifest_from_json(manifest_file.read_text(), where=manifest_file).output == chosen
    for row in report.rows:
        assert row.accuracy.top1 >= least, row.artifact
        assert row.coverage is None or row.coverage.float_ops == ()


def test_a_form_without_a_softmax_is_refused_at_once(tmp_path, capsys):
    path = configured(tmp_path, "values", "logits")
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "export.output: 'logits' is for a network that ends in a softmax" in capsys.readouterr().err
    assert not (tmp_path / "out" / "output.json").exists()


def test_why_is_written(tmp_path):
    path = configured(tmp_path, "many", "auto")
    assert main(["quantize", str(path), "--out", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out" / "output.json").read_text())
    assert document["asked"] == "auto"
    assert re.match(r"the largest of 1,000 probabilities falls to 0\.00\d+ on the calibration data", document["why"])
