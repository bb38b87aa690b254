"""What to ship, on a terminal: a line of figures and a sentence for each place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeship.core.ship import ShipLine
from edgeship.validate.report.ship_lines import SHIP_COLUMNS, ship_cells, ship_legend, ship_sentence

INDENT = 2
GAP = 2  # blanks between columns
STYLES = {"pass": "dim", "fail": "red", "inconclusive": "yellow", "refused": "yellow"}


def ship_to_terminal(ship: Sequence[ShipLine]) -> Iterator[RenderableType]:
    """Yield the table line by line: figures, and below them whether the file is good enough and why this one."""
    if not ship:
        return
    cells = [list(SHIP_COLUMNS), *map(ship_cells, ship)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(SHIP_COLUMNS))]
    yield _row(cells[0], widths, style="bold")
    for line, row in zip(ship, cells[1:], strict=True):
        yield _row(row, widths, style="")
        style = "red" if line.slower else STYLES[line.verdict]
        yield Padding(Text(ship_sentence(line), style=style), (0, 0, 0, INDENT), expand=False)
    yield Text(ship_legend(ship), style="dim")


def _row(cells: Sequence[str], widths: Sequence[int], *, style: str) -> Table:
    """Return one line as a grid of its own, whose columns are as wide as those of the others."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for width in widths:
        grid.add_column(min_width=width, overflow="fold")
    grid.add_row(*(Text(cell, style=style) for cell in cells))
    return grid
