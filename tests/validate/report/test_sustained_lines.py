"""Sustained speed in the terminal, report.md, report.html and report.json."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

from rich.console import Console

from edgeship.core.measurement import Report
from edgeship.core.sustained import Sustained, Window
from edgeship.validate.report.html.page import report_to_html
from edgeship.validate.report.markdown import report_to_markdown
from edgeship.validate.report.report import load_report, write_report
from edgeship.validate.report.sustained_lines import sustained_cells, sustained_sentences
from edgeship.validate.report.terminal import report_to_terminal
from tests.support.report_records import classifier

FOUND = Sustained(windows=tuple(
    Window(seconds=10.0, inferences=count, median_ms=10_000 / count, clock_mhz=clock, temperature_c=None)
    for count, clock in ((20_000, 2400.0), (19_600, 2300.0), (19_200, 2100.0))
))


def reports() -> tuple[Report, Report]:
    """One without and one with sustained speed."""
    plain = classifier()
    first, *others = plain.rows
    return plain, dataclasses.replace(plain, rows=(dataclasses.replace(first, sustained=FOUND), *others))


def test_the_first_window_against_the_last_one() -> None:
    row = reports()[1].rows[0]
    assert sustained_cells(row, FOUND)[3:] == [
        "30", "96 %", "2,000.0 -> 1,920.0", "0.500 -> 0.521", "2,400 -> 2,100", "-",
    ]
    (sentence,) = sustained_sentences(reports()[1].rows)
    assert sentence.startswith(row.artifact) and sentence.endswith(": holds 96 % after 30 s")


def test_every_form_has_it_where_it_was_measured_and_only_there(tmp_path: Path) -> None:
    for report, there in zip(reports(), (False, True), strict=True):
        stream = io.StringIO()
        Console(file=stream, width=120).print(report_to_terminal(report, width=120))
        assert ("holds 96 % after 30 s" in stream.getvalue()) is there
        assert ("## Sustained speed" in report_to_markdown(report)) is there
        page = report_to_html(report)
        assert ("Sustained speed" in page) is there and ("seconds without a pause" in page) is there
        write_report(report, tmp_path, None)
        assert load_report(tmp_path / "report.json").rows[0].sustained == report.rows[0].sustained
        # Reports of before have no such key, and are read.
        assert ("sustained" in json.loads((tmp_path / "report.json").read_text())["rows"][0])
