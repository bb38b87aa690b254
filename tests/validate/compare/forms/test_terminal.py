from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeship.core.comparison import Comparison
from edgeship.validate.compare.forms.columns import COLUMNS
from edgeship.validate.compare.forms.terminal import comparison_to_terminal
from tests.support.comparison_records import comparison, every_kind


def shown(found: Comparison, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(comparison_to_terminal(found, width=width))
    return stream.getvalue()


def test_a_wide_window_shows_everything() -> None:
    text = shown(every_kind(), 240)
    for name in COLUMNS:
        assert name in text
    assert "+3.1 % [+2.2, +4.0]" in text and "AMD EPYC 7B13 (avx2)" in text
    assert "- int8-s8s8.onnx / onnxruntime: worse: operations: expected 1 Relu, found 3 (relu_1, a|b)" in text
    assert "- int8-qat.tflite / litert: changed: 0.8 % fewer instructions" in text
    assert "1,404,928 bytes" not in text  # it is the same everywhere
    assert "- int8-ptq.tflite / litert on ssh://pi@board:22: about 24 launches would decide it" in text
    assert "- float32.tflite / litert on adb: refused: adb: no device: plug it in, 50 % charged" in text
    assert "- cpu: its load average is 3.1 on 2 cores" in text
    assert "REGRESSION: " in text and "INTERRUPTED" not in text


@pytest.mark.parametrize("width", [100, 120, 140])
def test_a_narrow_window_does_without_columns_and_says_so(width: int) -> None:
    text = shown(comparison(), width)
    assert "in comparison.md: CPU" in text
    assert "+3.1 % [+2.2, +4.0]" in text  # whole, not folded
    assert "- cpu: AMD EPYC 7B13 (avx2)" in text  # beside every latency, whatever the width


def test_an_interrupted_comparison_and_a_self_test_say_so() -> None:
    text = shown(comparison(interrupted=True, self_test=True, verdict="inconclusive"), 200)
    assert "INTERRUPTED: only what was measured before Ctrl-C is here" in text
    assert "self-test:\n- int8-qat.onnx / onnxruntime: " in text
    assert "self-test:" not in shown(comparison(), 200)


def test_a_comparison_without_checks_can_be_shown() -> None:
    assert "INTERRUPTED" in shown(comparison(interrupted=True, verdict="inconclusive", checks=(), reasons=()), 100)
