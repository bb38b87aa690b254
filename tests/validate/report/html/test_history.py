"""`history.html`: reports and history.csv files -> a trend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeship.app.cli.main import main
from edgeship.core.errors import InputError
from edgeship.validate.compare.forms.history import COLUMNS, appended
from edgeship.validate.report.html.history import history_to_html, read_entries
from edgeship.validate.report.report import write_report
from tests.support.report_records import classifier

LINE = {
    "time": "2026-01-02T00:00:00+00:00", "commit": "c" * 40, "name": "int8.onnx", "runtime": "onnxruntime",
    "target": "cpu", "metric": "cpu_time", "ratio": 1.08, "ratio_low": 1.05, "ratio_high": 1.1, "median_ms": 0.5,
    "median_cpu_ms": 0.4, "p90_ms": 0.6, "size_bytes": 1_500_000, "instructions": "", "verdict": "regression",
    "interrupted": "false", "cpu": "some (avx2)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two reports and one history, kept in a folder."""
    for number, (day, verdict) in enumerate((("03", "pass"), ("01", "fail"))):
        report = dataclasses.replace(classifier(), created_at=f"2026-01-{day}T00:00:00+00:00", verdict=verdict)
        kept = tmp_path / f"run-{number}"
        kept.mkdir()
        write_report(report, kept)
    (tmp_path / "history.csv").write_text(appended("", [LINE]))
    return tmp_path


def test_entries_are_in_the_order_of_time(folder: Path) -> None:
    found = read_entries(folder)
    days = list(dict.fromkeys((entry.time[:10], entry.source, entry.verdict) for entry in found))
    assert days == [
        ("2026-01-01", "run-1", "fail"), ("2026-01-02", "c" * 12, "regression"), ("2026-01-03", "run-0", "pass"),
    ]
    lite = next(entry for entry in found if entry.name == "int8-qat.tflite / litert")
    assert lite.values["accuracy"] == pytest.approx(84.0) and lite.values["size"] == pytest.approx(1.404928)
    line = next(entry for entry in found if entry.verdict == "regression")
    assert line.values == {
        "accuracy": None, "latency ratio": 1.08, "speed-up": None, "median ms": 0.5, "size": 1.5, "instructions": None,
    }
    assert read_entries(folder / "history.csv") == [line]


def test_the_page_has_every_figure_and_marks_verdicts(folder: Path) -> None:
    entries = read_entries(folder)
    page = history_to_html(entries, title="<History>")
    assert page == history_to_html(entries, title="<History>")
    assert "&lt;History&gt;" in page and "The latest verdict is pass" in page
    assert "not measured: no entry has this figure (speed-up)" in page
    assert page.count('class="marked"') == sum(entry.verdict != "pass" for entry in entries)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "history.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["history", str(folder / "history.csv")]) == 0
    assert (folder / "history.html").exists()
    assert main(["report", str(folder / "run-0")]) == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "expected a folder with report.json or comparison.json, found neither" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "message"), [
    (None, "expected a folder with report.json or history.csv files"),
    (",".join(COLUMNS) + "\n", "found none with a line"),
    ("a,b\n1,2\n", "expected the columns"),
    (",".join(COLUMNS) + "\n1,2,3\n", r"history\.csv, line 2: expected 17 cells"),
    (appended("", [{**LINE, "ratio": "much"}]), "ratio: expected a number or nothing, found 'much'"),
    (appended("", [{**LINE, "verdict": "fine"}]), "with one of the verdicts"),
])
def test_what_is_no_history(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_entries(tmp_path)
