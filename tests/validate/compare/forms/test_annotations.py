from __future__ import annotations

import pytest

from edgeship.validate.compare.forms.annotations import comparison_to_annotations
from tests.support.comparison_records import check, comparison, every_kind

ACTIONS = {"GITHUB_ACTIONS": "true"}


def unescaped(text: str) -> str:
    for escape, sign in {"%3A": ":", "%2C": ",", "%0A": "\n", "%0D": "\r", "%25": "%"}.items():
        text = text.replace(escape, sign)
    return text


@pytest.mark.parametrize("variables", [{}, {"GITHUB_ACTIONS": ""}, {"GITHUB_ACTIONS": "false"}, {"CI": "true"}])
def test_elsewhere_there_are_none(variables) -> None:
    assert comparison_to_annotations(every_kind(), variables=variables) == ()


def test_the_processs_own_variables_count_if_none_are_given(monkeypatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert comparison_to_annotations(comparison()) == ()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert len(comparison_to_annotations(comparison())) == 1


def test_a_regression_is_an_error_and_no_verdict_a_warning() -> None:
    lines = comparison_to_annotations(every_kind(), variables=ACTIONS)
    assert [line.partition("::")[2].partition("::")[0] for line in lines] == [
        "error title=int8-qat.onnx / onnxruntime%3A regression",
        "warning title=int8-ptq.tflite / litert on ssh%3A//pi@board%3A22%3A inconclusive",
        "warning title=float32.tflite / litert on adb%3A refused",
        "error title=int8-s8s8.onnx / onnxruntime%3A regression",
    ]
    assert lines[1].endswith("nor below 5.0%25%0Aabout 24 launches would decide it: --max-seconds 60")
    assert lines[2].endswith("::adb: no device:%0Aplug it in, 50 %25 charged")


def test_whatever_a_message_holds_it_stays_one_command() -> None:
    nasty = "100 %\r\n::stop-commands::x\n::error::fake, %0A"
    name = "a,b::c%\n.onnx"
    (line,) = comparison_to_annotations(comparison(check(name=name, reasons=(nasty,))), variables=ACTIONS)
    assert "\n" not in line and "\r" not in line
    command, title, message = line.split("::", 2)[1].partition(" title=")[0], *line[2:].split("::", 1)
    assert command == "error"
    assert unescaped(title.partition("title=")[2]) == f"{name} / onnxruntime: regression"
    assert unescaped(message) == nasty
    assert "," not in title


def test_an_interrupted_comparison_is_a_warning_even_without_a_check() -> None:
    found = comparison(interrupted=True, checks=(), reasons=(), verdict="inconclusive")
    (line,) = comparison_to_annotations(found, variables=ACTIONS)
    assert line.startswith("::warning title=Latency comparison::INTERRUPTED")
