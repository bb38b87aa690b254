from __future__ import annotations

import dataclasses

import pytest

from edgeship.core.comparison import WALL_TIME, Environment
from edgeship.validate.compare.forms.columns import COLUMNS, cells, figure, processor, reasons, series_name, title
from tests.support.comparison_records import (
    FINGERPRINT,
    LOST,
    NOT_THERE,
    UNDECIDED,
    check,
    comparison,
    every_kind,
    timing,
)


def row(item, **changes) -> dict[str, str]:
    found = comparison(item, **changes)
    return dict(zip(COLUMNS, cells(found, item), strict=True))


def test_a_row_has_every_figure_with_its_unit() -> None:
    assert row(check()) == {
        "check": "int8-qat.onnx / onnxruntime", "verdict": "regression", "change [bounds]": "+3.1 % [+2.2, +4.0]",
        "baseline ms": "1.500", "candidate ms": "1.546", "metric": "CPU time", "launches x rounds": "10 x 12",
        "detectable": "+2.8 %", "CPU": "AMD EPYC 7B13 (avx2)",
    }


def test_the_medians_are_those_of_the_metric() -> None:
    found = row(check(timing=timing(metric=WALL_TIME)))
    assert (found["metric"], found["baseline ms"], found["candidate ms"]) == ("wall time", "2.000", "2.062")


def test_what_was_not_measured_is_never_zero() -> None:
    figures = row(NOT_THERE)
    assert figures["check"] == "float32.tflite / litert on adb"
    assert {value for name, value in figures.items() if name not in ("check", "verdict", "CPU")} == {"-"}
    assert figures["CPU"] == "unknown"  # nothing is known of a target that was not there
    assert row(UNDECIDED)["change [bounds]"] == "+3.0 % [no bound, +9.0]"
    nothing = timing(ratio_low=None, ratio_high=None, smallest_detectable=None, launches=0)
    empty = row(check(timing=dataclasses.replace(nothing, ratio=None, baseline=None, candidate=None)))
    assert (empty["change [bounds]"], empty["baseline ms"], empty["detectable"]) == ("-", "-", "-")


@pytest.mark.parametrize(("changes", "told"), [
    ({"cpu_flags": None}, "AMD EPYC 7B13 (flags unknown)"),
    ({"cpu_flags": ["aes"]}, "AMD EPYC 7B13 (no flags that matter)"),
    ({"cpu_model": None}, "unknown (avx2)"),
])
def test_a_processor_tells_what_is_known_of_it(changes, told: str) -> None:
    environment = Environment(
        target="cpu", fingerprint={**FINGERPRINT, **changes}, state_before=None, state_after=None
    )
    found = comparison(environments=(environment,))
    assert processor(found, found.checks[0]) == told


def test_of_several_environments_the_one_of_the_runtime_is_told() -> None:
    other = {**FINGERPRINT, "cpu_model": "another", "must_match": {"runtime": "litert"}}
    environments = tuple(
        Environment(target=target, fingerprint=fingerprint, state_before=None, state_after=None)
        for target, fingerprint in (("adb", other), ("cpu", other), ("cpu", FINGERPRINT))
    )
    found = comparison(environments=environments)
    assert processor(found, found.checks[0]) == "AMD EPYC 7B13 (avx2)"


@pytest.mark.parametrize(("value", "text"), [
    (None, "-"), (21_528_712.0, "21,528,712"), (0.982142, "0.9821"), (0.0, "0"),
])
def test_figures_of_exact_gates(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_names_and_titles() -> None:
    assert series_name(UNDECIDED) == "int8-ptq.tflite@ssh://pi@board:22/litert"
    assert title(comparison()) == "Latency of new/bundle against old/bundle"
    assert title(comparison(self_test=True)) == "Latency self-test of old/bundle"


def test_sentences_of_exact_gates_are_not_told_twice() -> None:
    told = reasons(every_kind())
    assert not any(LOST.exact[1].sentence in reason for reason in told)
    assert len(told) == len(every_kind().reasons) - 1
