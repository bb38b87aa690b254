"""The report on a terminal: what `edgeship validate` prints."""

from __future__ import annotations

from collections.abc import Iterator
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
from edgeship.validate.report.ship_table import ship_to_terminal
from edgeship.validate.report.sustained_lines import sustained_sentences

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "refused": "bold yellow"}
TEXT_COLUMNS = ("artifact", "runtime", "target", "error")
# What a narrow window does without, the first one first; report.md has every column.
DISPENSABLE = ("p90 ms", "SQNR dB", "size", "agreement", "same top-1", "speed-up [95 %]", "integer ops")
MACHINE_LINES = 2  # processor with its flags, memory with the load: what times depend on most
CELL_MARGIN = 3  # a border and two blanks


def report_to_terminal(report: Report, *, width: int, everything: bool = False) -> RenderableType:
    """The verdict, what to ship, the failures; the caller prints it.

    Args:
        width: the window's, in characters.
        everything: also the table of all rows, and a line for each pair of files.
    """
    return Group(
        Text(headline(report), style=STYLES[report.verdict]),
        *ship_to_terminal(report.ship),
        *(_all_rows(report, width) if everything else ()),
        *(Text(line) for line in sustained_sentences(report.rows)),
        *(Text(f"- {failure}") for failure in report.failures),
        *(Text(f"{table.artifact}, layer by layer: {layer_sentence(table)}") for table in report.layer_errors),
        Text("\n".join(islice(machine_lines(report), MACHINE_LINES)), style="dim"),
    )


def _all_rows(report: Report, width: int) -> Iterator[RenderableType]:
    """Yield the main table, and how the files of each pair compare."""
    table, left_out = report_table(report, width=width)
    more = f"; in report.md: {', '.join(left_out)}" if left_out else ""
    yield table
    yield Text(f"{NOT_MEASURED}: not measured; {NOT_APPLICABLE}: does not apply{more}", style="dim")
    lines = [
        *kept_lines(report), *(f"{grid.onnx} against {grid.tflite}: {grid_sentence(grid)}" for grid in report.grids),
        *format_lines(report),
    ]
    yield from map(Text, lines)


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
