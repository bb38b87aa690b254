"""A comparison on a terminal: what `edgeship compare` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeship.core.comparison import IMPROVED, INCONCLUSIVE, PASS, REFUSED, REGRESSION, Comparison
from edgeship.validate.compare.forms.columns import (
    COLUMNS,
    advice,
    cells,
    differing_gates,
    headlines,
    machine_lines,
    reasons,
    title,
)
from edgeship.validate.compare.forms.self_test_sentences import self_test_sentences
from edgeship.validate.report.columns import NOT_MEASURED
from edgeship.validate.report.terminal import CELL_MARGIN

STYLES = {
    IMPROVED: "bold green", PASS: "bold green", REGRESSION: "bold red", INCONCLUSIVE: "bold yellow",
    REFUSED: "bold yellow",
}
TEXT_COLUMNS = ("check", "verdict", "metric", "CPU")
# What a narrow window does without, the first one first; comparison.md has every column, and a line names the CPU.
DISPENSABLE = ("CPU", "launches x rounds", "metric", "detectable")


def comparison_to_terminal(comparison: Comparison, *, width: int) -> RenderableType:
    """The table, a self-test's answer, exact gates that found something, reasons, advice, notes, CPUs, the verdict.

    `width` is the window's, in characters.
    """
    table, left_out = comparison_table(comparison, width=width)
    more = f"; in comparison.md: {', '.join(left_out)}" if left_out else ""
    return Group(
        Text(title(comparison)),
        table,
        Text(f"{NOT_MEASURED}: not measured, or not needed{more}", style="dim"),
        *_lines("self-test", self_test_sentences(comparison)),
        *_lines("exact gates", [
            f"{check.label}: {item.outcome}: {item.sentence}"
            for check, item in differing_gates(comparison)
        ]),
        *_lines("reasons", reasons(comparison)),
        *_lines("what to do", advice(comparison)),
        *_lines("notes", comparison.notes),
        *_lines("measured on", machine_lines(comparison)),
        *(Text(line, style=STYLES[comparison.verdict]) for line in headlines(comparison)),
    )


def comparison_table(comparison: Comparison, *, width: int) -> tuple[Table, list[str]]:
    """The columns of `comparison.md`, and the names of those there was no room for."""
    rows = [cells(comparison, check) for check in comparison.checks]
    names = list(COLUMNS)
    needed = {
        name: max([len(name), *(len(row[index]) for row in rows)]) + CELL_MARGIN for index, name in enumerate(names)
    }
    left_out: list[str] = []
    for name in DISPENSABLE:
        if sum(needed.values()) + 1 > width:
            del needed[name]
            left_out.append(name)
    table = Table()
    for name in needed:
        table.add_column(Text(name), justify="left" if name in TEXT_COLUMNS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[names.index(name)]) for name in needed))
    return table, left_out


def _lines(name: str, lines: Sequence[str]) -> list[Text]:
    """On one line each: what a crashed runtime said may have several."""
    return [Text(f"{name}:"), *(Text(f"- {' '.join(line.split())}") for line in lines)] if lines else []
