"""The report on a terminal: what `edgeship validate` prints."""

from __future__ import annotations

from itertools import islice

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeship.core.measurement import Report
from edgeship.validate.report.columns import NOT_APPLICABLE, NOT_MEASURED, cells, columns_of
from edgeship.validate.report.markdown import (
    format_lines,
    grid_sentence,
    headline,
    kept_lines,
    layer_sentence,
    machine_lines,
)

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "refused": "bold yellow"}
TEXT_COLUMNS = ("artifact", "runtime", "target", "error")
# What a narrow window does without, the first one first; report.md has every column.
DISPENSABLE = ("p90 ms", "SQNR dB", "size", "agreement", "same top-1", "speed-up [95 %]", "integer ops")
MACHINE_LINES = 2  # processor with its flags, memory with the load: what times depend on most
CELL_MARGIN = 3  # a border and two blanks


def report_to_terminal(report: Report, *, width: int) -> RenderableType:
    """The main table, one line per pair of files, the failures, the verdict; the caller prints it.

    `width` is the window's, in characters.
    """
    table, left_out = report_table(report, width=width)
    more = f"; in report.md: {', '.join(left_out)}" if left_out else ""
    return Group(
        table,
        Text(f"{NOT_MEASURED}: not measured; {NOT_APPLICABLE}: does not apply{more}", style="dim"),
        Text("\n".join(islice(machine_lines(report), MACHINE_LINES)), style="dim"),
        *(Text(line) for line in kept_lines(report)),
        *(Text(f"{grid.onnx} against {grid.tflite}: {grid_sentence(grid)}") for grid in report.grids),
        *(Text(line) for line in format_lines(report)),
        *(Text(f"- {failure}") for failure in report.failures),
        *(Text(f"{table.artifact}, layer by layer: {layer_sentence(table)}") for table in report.layer_errors),
        Text(headline(report), style=STYLES[report.verdict]),
    )


def report_table(report: Report, *, width: int) -> tuple[Table, list[str]]:
    """The columns of `report.md` without those that are empty in every row; and those there was no room for."""
    names = columns_of(report.rows)
    rows = [cells(row, names) for row in report.rows]
    needed = {
        name: max(len(name), *(len(row[index]) for row in rows)) + CELL_MARGIN
        for index, name in enumerate(names) if any(row[index] for row in rows)
    }
    left_out: list[str] = []
    for name in DISPENSABLE:
        if sum(needed.values()) + 1 > width and name in needed:
            del needed[name]
            left_out.append(name)
    table = Table()
    for name in needed:
        table.add_column(name, justify="left" if name in TEXT_COLUMNS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[names.index(name)]) for name in needed))
    return table, left_out
