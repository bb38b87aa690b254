from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from junitparser import Failure, JUnitXml, Skipped

from edgeship.core.comparison import Comparison
from edgeship.validate.compare.forms.junit import comparison_to_junit
from tests.support.comparison_records import PASSED, check, comparison, every_kind, timing

# What junit-10.xsd of Jenkins' xunit plug-in allows: element -> (required attributes, other attributes, children).
JUNIT_10: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"}, {"time", "classname", "group"}, {"skipped", "error", "failure", "system-out", "system-err"}
    ),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
}


def parsed(found: Comparison) -> JUnitXml:
    return JUnitXml.fromstring(comparison_to_junit(found))


def properties(found: Comparison, number: int = 0) -> dict[str, str]:
    return {item.name: item.value for item in list(parsed(found))[number].properties()}


@pytest.mark.parametrize("found", [
    comparison(), every_kind(), every_kind(interrupted=True), comparison(checks=(), reasons=(), verdict="inconclusive"),
])
def test_the_file_fits_the_schema(found: Comparison) -> None:
    root = ET.fromstring(comparison_to_junit(found))
    assert root.tag == "testsuites"
    for element in root.iter():
        required, optional, children = JUNIT_10[element.tag]
        assert required <= set(element.attrib) <= required | optional, element.tag
        assert {child.tag for child in element} <= children, element.tag
    for suite in root:
        cases = suite.findall("testcase")
        counts = Counter(child.tag for case in cases for child in case)
        told = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
        assert told == {
            "tests": len(cases), "failures": counts["failure"], "errors": 0, "skipped": counts["skipped"]
        }
        assert len({case.attrib["name"] for case in cases}) == len(cases)
    assert int(root.attrib["tests"]) == sum(int(suite.attrib["tests"]) for suite in root)
    assert int(root.attrib["failures"]) == sum(int(suite.attrib["failures"]) for suite in root)


def test_every_check_has_a_case_for_its_latency_and_each_gate() -> None:
    cases = {
        (suite.name, case.name): case.result[0] if case.result else None
        for suite in parsed(every_kind()) for case in suite
    }
    outcomes = {key: type(result) for key, result in cases.items() if result is not None}
    assert len(cases) == 12
    assert outcomes == {
        ("int8-qat.onnx / onnxruntime", "latency"): Failure,
        ("int8-ptq.tflite / litert on ssh://pi@board:22", "latency"): Skipped,  # inconclusive
        ("float32.tflite / litert on adb", "latency"): Skipped,  # refused
        ("float32.tflite / litert on adb", "instructions"): Skipped,  # not measured
        ("int8-s8s8.onnx / onnxruntime", "latency"): Skipped,  # not timed, since
        ("int8-s8s8.onnx / onnxruntime", "operations"): Failure,
        ("float32.onnx / onnxruntime", "latency"): Skipped,  # identical
    }
    failure = cases["int8-qat.onnx / onnxruntime", "latency"]
    assert failure.message == check().reasons[0] == failure.text and failure.type == "regression"
    skipped = cases["int8-ptq.tflite / litert on ssh://pi@board:22", "latency"]
    assert (skipped.type, skipped.message) == ("inconclusive", "inconclusive: neither above 2.0% nor below 5.0%")
    assert cases["float32.onnx / onnxruntime", "latency"].message.startswith("not timed: identical artifact")
    assert cases["int8-s8s8.onnx / onnxruntime", "operations"].message.startswith("operations: expected 1 Relu")


def test_a_candidate_that_does_not_run_at_all_is_a_failure_of_the_latency() -> None:
    crashed = check(timing=None, exact=(), reasons=("only the candidate fails: it crashed (SIGSEGV)",))
    ((case,),) = (list(suite) for suite in parsed(comparison(crashed)))
    assert isinstance(case.result[0], Failure)


def test_numbers_are_properties_of_the_suite() -> None:
    told = properties(comparison(check(), PASSED))
    assert float(told["timing.ratio"]) == check().timing.ratio
    assert float(told["timing.candidate.median_cpu_ms"]) == check().timing.candidate.median_cpu_ms
    assert (told["timing.launches"], told["timing.rounds"], told["timing.metric"]) == ("10", "12", "cpu_time")
    assert told["timing.candidate.p99_ms"] == "not measured"
    assert told["exact.size_bytes.candidate"] == "1404928.0"
    assert told["candidate.sha256"] == "1" * 64
    assert (told["cpu_model"], told["cpu_flags"]) == ("AMD EPYC 7B13", "aes avx2 sse4_2")
    assert (told["verdict"], told["interrupted"]) == ("regression", "false")


def test_the_suite_says_when_where_and_how_long() -> None:
    (suite,) = parsed(comparison())
    assert (suite.timestamp, suite.hostname) == ("2026-08-01T10:00:00", "ci-7")
    assert suite.time == pytest.approx(check().timing.seconds, abs=1e-3)


def test_without_a_timing_its_numbers_are_not_measured() -> None:
    told = properties(comparison(check(timing=None)))
    assert {value for name, value in told.items() if name.startswith("timing.")} == {"not measured"}


def test_an_interrupted_comparison_says_so() -> None:
    found = every_kind(interrupted=True)
    assert "INTERRUPTED" in parsed(found).name
    assert properties(found, 1)["interrupted"] == "true"


def test_what_a_crashed_runtime_said_does_not_break_the_file() -> None:
    reason = 'crashed: \x1b[31m\x00 <b> & "quoted" ]]> \ud800'
    gate = dataclasses.replace(check().exact[0], outcome="worse", sentence=reason)
    found = comparison(check(reasons=(reason,), exact=(gate,), timing=None), check(reasons=(reason,), timing=timing()))
    messages = {case.result[0].message for suite in parsed(found) for case in suite if case.is_failure}
    assert messages == {'crashed: �[31m� <b> & "quoted" ]]> �'}
