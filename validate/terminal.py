"""The report on a terminal: what `edgeship validate` prints."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeship.measurement import Report
from validate.columns import COLUMNS, NOT_APPLICABLE, NOT_MEASURED, cells
from validate.markdown import HEADLINES, grid_sentence

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "refused": "bold yellow"}
TEXT_COLUMNS = ("artifact", "runtime", "target", "error")


def report_to_terminal(report: Report) -> RenderableType:
    """The main table, one line per pair of files, the failures, the verdict; the caller prints it."""
    return Group(
        report_table(report),
        Text(f"{NOT_MEASURED}: not measured; {NOT_APPLICABLE}: does not apply", style="dim"),
        *(Text(f"{grid.onnx} against {grid.tflite}: {grid_sentence(grid)}") for grid in report.grids),
        *(Text(f"- {failure}") for failure in report.failures),
        Text(HEADLINES[report.verdict], style=STYLES[report.verdict]),
    )


def report_table(report: Report) -> Table:
    """The columns of `report.md` without those that are empty in every row."""
    rows = [cells(row) for row in report.rows]
    shown = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
    table = Table()
    for index in shown:
        name = list(COLUMNS)[index]
        table.add_column(name, justify="left" if name in TEXT_COLUMNS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[index]) for index in shown))
    return table
