"""`junit.xml`: a comparison as test results.

A test suite per check, a test case for its latency and for each of its exact gates. The numbers are the suite's
properties: of test cases the schema that Jenkins and pytest go by knows none (junit-10.xsd of Jenkins' xunit plug-in).
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from edgeship.core.comparison import (
    INCONCLUSIVE,
    NOT_MEASURED,
    REFUSED,
    REGRESSION,
    WORSE,
    ArmTiming,
    Check,
    Comparison,
    Exact,
    Timing,
)
from edgeship.validate.compare.forms.columns import INTERRUPTED, environment_of, series_name, title

LATENCY = "latency"
ARMS = ("baseline", "candidate")
# Not characters of XML 1.0 (section 2.2); what a crashed runtime said can hold them, and no parser would read the file.
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def comparison_to_junit(comparison: Comparison) -> bytes:
    """JUnit XML: "regression" and "worse" are failures; "inconclusive", "refused" and "not measured" are skipped."""
    root = JUnitXml(_clean(f"{title(comparison)} ({INTERRUPTED})" if comparison.interrupted else title(comparison)))
    suites = [_suite(comparison, check) for check in comparison.checks]
    for suite in suites:
        root.append(suite)
    for count in ("tests", "failures", "errors"):
        setattr(root, count, sum(getattr(suite, count) for suite in suites))
    root.time = round(sum(suite.time for suite in suites), 3)
    stream = io.BytesIO()
    root.write(stream, pretty=True)
    return stream.getvalue()


def _suite(comparison: Comparison, check: Check) -> TestSuite:
    environment = environment_of(comparison, check)
    recorded = {} if environment is None else environment.fingerprint.get("recorded", {})
    suite = TestSuite(_clean(check.label))
    suite.timestamp = comparison.created_at[:19]  # the schemas know no zone; it is UTC
    suite.hostname = _clean(recorded.get("hostname") or check.target)
    for name, value in _properties(comparison, check):
        suite.add_property(name, "not measured" if value is None else _clean(str(value)))
    suite.add_testcases([_latency(check), *(_gate(check, item) for item in check.exact)])
    return suite


def _latency(check: Check) -> TestCase:
    seconds = 0.0 if check.timing is None else round(check.timing.seconds, 3)
    case = TestCase(LATENCY, classname=_clean(series_name(check)), time=seconds)
    reasons = _clean("\n".join((*check.reasons, *check.advice)) or check.verdict)
    first = reasons.partition("\n")[0]
    gate_failed = any(item.outcome == WORSE for item in check.exact)
    if check.verdict == REGRESSION and not gate_failed:
        failure = Failure(first, REGRESSION)
        failure.text = reasons
        case.result = failure
    elif check.verdict in (INCONCLUSIVE, REFUSED):
        case.result = Skipped(f"{check.verdict}: {first}", check.verdict)
    elif check.timing is None:
        case.result = Skipped(f"not timed: {first}", NOT_MEASURED)
    return case


def _gate(check: Check, item: Exact) -> TestCase:
    case = TestCase(_clean(item.gate), classname=_clean(series_name(check)), time=0.0)
    if item.outcome == WORSE:
        failure = Failure(_clean(item.sentence), WORSE)
        failure.text = _clean(item.sentence)
        case.result = failure
    elif item.outcome == NOT_MEASURED:
        case.result = Skipped(_clean(item.sentence), NOT_MEASURED)
    return case


def _properties(comparison: Comparison, check: Check) -> Iterator[tuple[str, object]]:
    """(name, value); None is not measured. Names are those of comparison.json."""
    yield "verdict", check.verdict
    yield "interrupted", str(comparison.interrupted).lower()
    for arm in ARMS:
        artifact = getattr(check, arm)
        for field in dataclasses.fields(artifact):
            yield f"{arm}.{field.name}", getattr(artifact, field.name)
    for field in dataclasses.fields(Timing):
        if field.name not in (*ARMS, "samples", "looks"):
            yield f"timing.{field.name}", None if check.timing is None else getattr(check.timing, field.name)
    for arm in ARMS:
        figures = None if check.timing is None else getattr(check.timing, arm)
        for field in dataclasses.fields(ArmTiming):
            yield f"timing.{arm}.{field.name}", None if figures is None else getattr(figures, field.name)
    for item in check.exact:
        yield f"exact.{item.gate}.baseline", item.baseline
        yield f"exact.{item.gate}.candidate", item.candidate
    environment = environment_of(comparison, check)
    fingerprint = {} if environment is None else environment.fingerprint
    flags = fingerprint.get("cpu_flags")
    yield "cpu_model", fingerprint.get("cpu_model")
    yield "cpu_flags", None if flags is None else " ".join(flags)


def _clean(text: str) -> str:
    return NOT_XML.sub("�", text)
