"""What to ship, on a terminal of 100 x 40 characters and in Markdown."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from edgeship.core.measurement import REPORT_SCHEMA, Report
from edgeship.core.ship import ShipLine
from edgeship.core.variants import VARIANTS
from edgeship.validate.process.machine import describe_machine
from edgeship.validate.report.markdown import report_to_markdown
from edgeship.validate.report.ship_lines import ship_cells, ship_legend, ship_sentence
from edgeship.validate.report.terminal import report_to_terminal
from tests.support.ship_rows import ROWS, artifact, bundle, lines, manifest, row

WIDTH, HEIGHT = 100, 40
# The files of the quickstart: every place has one.
QUICKSTART = manifest(
    *bundle("int8-ptq", "int8-qat", variants=VARIANTS).artifacts, artifact("float32.ort", "float32"),
    artifact("int8-qat.ort", "int8-qat"), artifact("int8-qat-float-io.tflite", "int8-qat", dtype="float32"),
)
ALL_ROWS = [*ROWS, row("float32.ort", ms=2.0), row("int8-qat.ort", ms=4.0), row("int8-qat-float-io.tflite", ms=1.0)]
SHIP = tuple(lines(ALL_ROWS, QUICKSTART).values())
REPORT = Report(
    schema=REPORT_SCHEMA, created_by="edgeship 0.1.0", bundle="runs/digits/bundle", machine=describe_machine(),
    created_at="2026-01-01T00:00:00+00:00", rows=tuple(ALL_ROWS), grids=(), agreements=(), verdict="pass", failures=(),
    notes=(), ship=SHIP,
)


def shown(report: Report, *, width: int = WIDTH, everything: bool = False) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report_to_terminal(report, width=width, everything=everything))
    return stream.getvalue().splitlines()


def test_every_place_of_the_quickstart_fits_the_window() -> None:
    assert len(SHIP) == 9
    text = shown(REPORT)
    assert len(text) + 1 <= HEIGHT  # the command line ends with a line of its own
    assert max(map(len, text)) <= WIDTH
    assert text[0] == "PASS: every gate holds"
    for line in SHIP:  # figures are whole, on one line, and the first thing that is read
        (found,) = (number for number, item in enumerate(text) if item.startswith(f"{line.words}  "))
        assert [cell for cell in ship_cells(line) if cell not in text[found]] == []
        assert text[found + 1].startswith("  pass: ")


def test_the_table_of_all_rows_follows_only_where_it_is_asked_for() -> None:
    assert not any("median ms" in line for line in shown(REPORT, width=200))
    text = shown(REPORT, width=200, everything=True)
    first = next(number for number, line in enumerate(text) if "median ms" in line)
    assert first > next(number for number, line in enumerate(text) if "phone or board" in line)


def test_markdown_begins_with_it_and_says_where_it_was_measured() -> None:
    text = report_to_markdown(REPORT)
    assert text.index("## What to ship") < text.index("## Artifacts on their runtimes")
    row_of = "int8-qat.onnx / onnxruntime"
    assert f"- x86 with VNNI: accuracy of {row_of}; speed of no row" in text
    assert f"- x86 with AVX2, no VNNI: accuracy of {row_of}; speed of {row_of} against float32.onnx" in text
    assert "| phone or board, LiteRT | int8-qat.tflite | 25 % | +0.00 [-0.50, +0.50] | 4.00 [4.00, 4.00] | pass: " in (
        text
    )
    assert "## What to ship" not in report_to_markdown(dataclasses.replace(REPORT, ship=()))


@pytest.mark.parametrize(("changes", "cell", "text"), [
    ({"metric": "mean_absolute_error", "delta": 0.0123456, "delta_ci95": (-0.1, 0.2)}, 3, "+0.0123 [-0.1, +0.2]"),
    ({"delta": None, "delta_ci95": None}, 3, "not measured"),
    ({"speedup": 6.25, "speedup_ci95": None, "speedup_by": "instructions"}, 4, "6.25 (instructions)"),
    ({"speedup_ci95": None}, 4, "4.00"),
    ({"size_share": None}, 2, ""),
    ({"file": None}, 1, "none"),
])
def test_what_was_not_measured_says_so(changes: dict[str, object], cell: int, text: str) -> None:
    line: ShipLine = dataclasses.replace(SHIP[0], **changes)  # type: ignore[arg-type]
    assert ship_cells(line)[cell] == text


@pytest.mark.parametrize(("verdict", "word"), [
    ("pass", "pass"), ("fail", "FAIL"), ("inconclusive", "inconclusive"), ("refused", "not proven"),
])
def test_the_sentence_begins_with_whether_it_is_good_enough(verdict: str, word: str) -> None:
    assert ship_sentence(dataclasses.replace(SHIP[0], verdict=verdict)).startswith(f"{word}: ")


@pytest.mark.parametrize(("metric", "delta", "said"), [
    ("top1", 0.01, "accuracy: against float Keras, top-1 in points;"),
    ("mean_absolute_error", 0.01, "accuracy: against float Keras, mean_absolute_error;"),
    ("top1", None, "accuracy: against float Keras;"),
])
def test_the_legend_names_the_metric_that_was_measured(metric: str, delta: float | None, said: str) -> None:
    ship = tuple(dataclasses.replace(line, metric=metric, delta=delta) for line in SHIP)
    assert said in ship_legend(ship)
    assert any(said in " ".join(text.split()) for text in [" ".join(shown(dataclasses.replace(REPORT, ship=ship)))])
