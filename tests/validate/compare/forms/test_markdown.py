from __future__ import annotations

import re

from edgeship.validate.compare.forms.columns import COLUMNS
from edgeship.validate.compare.forms.markdown import comparison_to_markdown
from tests.support.comparison_records import comparison, every_kind


def test_markdown_has_every_figure_and_finding() -> None:
    text = comparison_to_markdown(every_kind())
    assert text.startswith("# Latency of new/bundle against old/bundle\n\n**REGRESSION: ")
    assert (
        "| int8-qat.onnx / onnxruntime | regression | +3.1 % [+2.2, +4.0] | 1.500 | 1.546 | CPU time | 10 x 12 | "
        "+2.8 % | AMD EPYC 7B13 (avx2) |"
    ) in text
    assert (
        "| int8-s8s8.onnx / onnxruntime | operations | worse | 60 | 62 "
        r"| operations: expected 1 Relu, found 3 (relu\_1, a\|b) |"
    ) in text
    assert "| float32.tflite / litert on adb | instructions | not measured | - | - |" in text
    assert "## What to do\n\n- int8-ptq.tflite / litert on ssh://pi@board:22: about 24 launches" in text
    assert "- cpu: AMD EPYC 7B13 (avx2)" in text
    assert comparison_to_markdown(every_kind()) == text


def test_every_line_of_a_table_has_its_cells() -> None:
    text = comparison_to_markdown(every_kind())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    separators = {len(re.findall(r"(?<!\\)\|", line)) - 1 for line in rows}
    assert separators == {len(COLUMNS), 6}  # the checks, the exact gates


def test_an_interrupted_comparison_and_a_self_test_say_so() -> None:
    text = comparison_to_markdown(comparison(interrupted=True, self_test=True, verdict="inconclusive"))
    assert text.startswith("# Latency self-test of old/bundle\n\n**INCONCLUSIVE: ")
    assert "\n**INTERRUPTED: " in text and "\n## Self-test\n\n- int8-qat.onnx / onnxruntime: " in text
    other = comparison_to_markdown(comparison())
    assert "INTERRUPTED" not in other and "Self-test" not in other


def test_sections_that_have_nothing_to_say_are_left_out() -> None:
    text = comparison_to_markdown(comparison(notes=(), reasons=()))
    assert "## Notes" not in text and "## Reasons" not in text and "## Exact" not in text and "## What" not in text
