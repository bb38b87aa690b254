from __future__ import annotations

from typing import Any

import pytest

from edgeship.core.comparison import IMPROVED, INCONCLUSIVE, PASS, REFUSED, REGRESSION
from edgeship.validate.compare.forms.self_test_sentences import self_test_sentences
from tests.support.comparison_records import check, comparison, timing


def sentence(verdict: str, **changes: Any) -> str:
    made = changes.pop("timing", timing(1.001, smallest_detectable=0.031, seconds=41.4, launches=30))
    found = comparison(check(verdict=verdict, timing=made, reasons=("the reason",), **changes), self_test=True)
    (line,) = self_test_sentences(found)
    assert line.startswith("int8-qat.onnx / onnxruntime: ")
    return line


@pytest.mark.parametrize("verdict", [PASS, IMPROVED])
def test_a_machine_that_sees_less_than_the_limit_can_be_gated_on(verdict: str) -> None:
    assert sentence(verdict).endswith(
        "this machine can be gated on: with 30 launches in 41 s, 9 of 10 checks would see a slowdown of 3.1%; the "
        "limit is 5.0%"
    )


def test_one_that_sees_only_more_than_the_limit_cannot() -> None:
    line = sentence(PASS, timing=timing(1.001, smallest_detectable=0.0501))
    assert "cannot be gated on in this time" in line and "raise --max-seconds" in line
    assert "can be gated on: " in sentence(PASS, timing=timing(1.001, smallest_detectable=0.05))


def test_a_false_alarm_is_called_one() -> None:
    assert "a false alarm (30 launches in 41 s), as at most 1.00% of checks may raise" in sentence(REGRESSION)


def test_without_a_verdict_the_reason_is_told() -> None:
    assert sentence(INCONCLUSIVE).endswith("cannot be gated on as it is now (30 launches in 41 s): the reason")
    assert sentence(REFUSED, timing=None).endswith("was not measured: the reason")
    assert sentence(INCONCLUSIVE, timing=timing(1.0, smallest_detectable=None)).endswith("was not measured: the reason")


def test_there_is_nothing_to_say_of_other_comparisons() -> None:
    assert self_test_sentences(comparison()) == ()
