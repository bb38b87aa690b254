"""A bundle of every scheme through the whole validation: each file runs, each gate asks what its scheme promises."""

from __future__ import annotations

import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import ValidateConfig
from edgeship.core.measurement import Report
from edgeship.core.schemes import SCHEMES
from edgeship.validate.run import validate_bundle
from edgeship.validate.subject.bundle import load_bundle

CONFIG = ValidateConfig(
    runtimes=("litert", "onnxruntime"), latency_launches=1, latency_runs=3, latency_seconds=0.2, images=40,
    # 40 images of a hardly trained network: its interval would decide nothing.
    max_accuracy_drop=1.0,
)


@pytest.fixture(scope="module")
def report(every_scheme: Pipeline) -> Report:
    return validate_bundle(load_bundle(every_scheme.bundle_folder), every_scheme.splits.test, CONFIG)


def test_every_file_runs_and_passes(report: Report) -> None:
    assert (report.verdict, report.failures) == ("pass", ())
    assert {row.scheme for row in report.rows} == {
        "float32", "float16", "dynamic-int8", "weight-only-int8", "int16x8-ptq", "int8-ptq-mse",
    }
    for row in report.rows:
        assert row.error is None and row.accuracy is not None and row.latency is not None
        # 40 images: 4 of them may change their mind about a class of a network that is right for half of them.
        assert row.accuracy.agreement is not None and row.accuracy.agreement >= 0.9, row.artifact


def test_only_integer_schemes_have_coverage_and_it_is_whole(report: Report) -> None:
    for row in report.rows:
        if SCHEMES[row.scheme].integer:
            assert row.coverage is not None and row.coverage.share == 1.0 and row.coverage.float_ops == ()
        else:
            assert row.coverage is None


def test_calibrated_files_of_both_formats_are_on_one_grid(report: Report) -> None:
    (grid,) = report.grids
    assert (grid.tflite, grid.onnx, grid.mismatches) == ("int8-ptq-mse.tflite", "int8-ptq-mse.onnx", ())
    pairs = [(pair.first, pair.second) for pair in report.agreements]
    assert ("int8-ptq-mse.tflite / litert", "int8-ptq-mse.onnx / onnxruntime") in pairs
