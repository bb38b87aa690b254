from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import ValidateConfig


def test_an_unchanged_run_does_no_work_and_a_changed_gate_validates_alone(tiny_pipeline):
    gates = ValidateConfig(
        runtimes=("litert", "onnxruntime"), latency_launches=1, latency_runs=5, max_accuracy_drop=0.5
    )
    config = replace(tiny_pipeline.config, validate=gates)

    def run(config):
        pipeline = Pipeline(config=config, out=tiny_pipeline.out)
        return pipeline.run(), pipeline.cache.ran

    report, ran = run(config)
    assert ran == ["validate"]
    assert {row.artifact for row in report.rows} >= {"int8-qat.tflite", "int8-qat.onnx"}
    again, ran = run(config)
    assert (again, ran) == (report, [])
    _, ran = run(replace(config, validate=replace(gates, max_accuracy_drop=0.4)))
    assert ran == ["validate"]


def test_an_unchanged_home_model_is_found_without_tensorflow(tiny_pipeline):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeship.core.config import *\n"
        "from edgeship.app.pipeline.pipeline import Pipeline\n"
        f"pipeline = Pipeline(config={tiny_pipeline.config!r}, out=Path({str(tiny_pipeline.out)!r}))\n"
        "pipeline.export()\n"
        "print(pipeline.cache.ran, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[] False\n", done.stderr
