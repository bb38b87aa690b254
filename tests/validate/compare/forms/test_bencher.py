from __future__ import annotations

import dataclasses
import json

import pytest
from jsonschema import Draft7Validator

from edgeship.core.comparison import WALL_TIME
from edgeship.validate.compare.forms.bencher import comparison_to_bencher
from tests.support.comparison_records import (
    NOT_THERE,
    PASSED,
    UNDECIDED,
    arm_timing,
    check,
    comparison,
    every_kind,
    timing,
)

NAME = "int8-qat.onnx@cpu/onnxruntime"
# The shape that Bencher's reference page describes: benchmark -> measure -> {value, and maybe both bounds}.
NUMBER = {"type": "number"}
METRIC = {
    "type": "object", "required": ["value"], "additionalProperties": False,
    "properties": {"value": NUMBER, "lower_value": NUMBER, "upper_value": NUMBER},
}
BMF = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": METRIC}}


def test_the_document_has_benchers_shape() -> None:
    document = json.loads(json.dumps(comparison_to_bencher(every_kind()), allow_nan=False))
    Draft7Validator.check_schema(BMF)
    Draft7Validator(BMF).validate(document)
    assert len(document) == 6
    assert all(0 < len(name) <= 1024 for name in document)
    assert all(0 < len(measure) <= 64 for measures in document.values() for measure in measures)


def test_times_are_nanoseconds_of_the_candidate() -> None:
    measures = comparison_to_bencher(comparison())[NAME]
    candidate = check().timing.candidate
    assert measures["latency"] == {"value": pytest.approx(candidate.median_ms * 1e6)}  # the check went by CPU time
    assert measures["cpu-time"]["value"] == pytest.approx(candidate.median_cpu_ms * 1e6)
    assert measures["file-size"] == {"value": 1_404_928.0}


def test_the_interval_is_the_ratios_around_the_median() -> None:
    measures = comparison_to_bencher(comparison())[NAME]
    found = check().timing
    ratio = measures["latency-ratio"]
    assert (ratio["value"], ratio["lower_value"], ratio["upper_value"]) == pytest.approx(
        (found.ratio, found.ratio_low, found.ratio_high)
    )
    time = measures["cpu-time"]
    assert time["lower_value"] / time["value"] == pytest.approx(found.ratio_low / found.ratio)
    assert time["upper_value"] / time["value"] == pytest.approx(found.ratio_high / found.ratio)
    by_wall = comparison_to_bencher(comparison(check(timing=timing(metric=WALL_TIME))))[NAME]
    assert set(by_wall["latency"]) == {"value", "lower_value", "upper_value"} and set(by_wall["cpu-time"]) == {"value"}


def test_exact_figures_are_measures() -> None:
    (measures,) = comparison_to_bencher(comparison(PASSED)).values()
    assert measures["instructions"] == {"value": 95_000_000.0}


def test_what_was_not_measured_is_left_out() -> None:
    (measures,) = comparison_to_bencher(comparison(NOT_THERE)).values()
    assert set(measures) == {"file-size"}
    (measures,) = comparison_to_bencher(comparison(UNDECIDED)).values()
    assert "lower_value" not in measures["latency-ratio"] and "upper_value" in measures["latency-ratio"]
    without_cpu = timing(candidate=dataclasses.replace(arm_timing(), median_cpu_ms=None))
    assert "cpu-time" not in comparison_to_bencher(comparison(check(timing=without_cpu)))[NAME]


def test_an_interrupted_comparison_raises_no_alert() -> None:
    assert list(comparison_to_bencher(comparison(interrupted=True))) == [f"{NAME}-bencher-ignore"]
