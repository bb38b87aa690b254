"""What a page is made of: sections of tables, plots, matrices, galleries and lines. The templates draw them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NOT_MEASURED = "not measured"
FIGURE = re.compile(r"[-+]?\d[\d,.]*( ?(%|MB|ms|B|dB)| \(.*\)| \[.*\]|/\d+.*)*$")


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Sentences as a list."""

    items: Sequence[str]
    folded_under: str | None = None  # the line that opens them; None: they are open
    kind: str = "lines"


@dataclass(frozen=True, kw_only=True)
class Code:
    """Commands to copy."""

    text: str
    kind: str = "code"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of plain text; the first cell of a row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = frozenset()  # rows that stand out
    folded: bool = False  # shown when it is opened
    stacked: bool = False  # on a narrow screen each row is a block of lines, for what must be read whole
    kind: str = "table"

    def is_number(self, column: int) -> bool:
        """Return whether a column has figures, which stand to the right."""
        return any(FIGURE.match(row[column]) for row in self.rows if column < len(row))


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing, with a sentence that says what it shows to who cannot see it."""

    svg: str  # of plots.py, so no text of others is in it unescaped
    caption: str
    kind: str = "plot"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Counts by right class (down) and answer (across).

    `signed`: differences of two such matrices; a positive one is better on the diagonal and worse beside it.
    """

    caption: str
    labels: Sequence[str]
    cells: Sequence[Sequence[int]]
    signed: bool = False
    kind: str = "matrix"

    def strength(self, row: int, column: int) -> float:
        """Return how strongly a cell is coloured, from 0 to 1: its share of the row, or of the largest difference."""
        value = abs(self.cells[row][column])
        line = self.cells[row] if not self.signed else [cell for cells in self.cells for cell in cells]
        whole = max(map(abs, line), default=0) if self.signed else sum(line)
        return value / whole if whole else 0.0

    def tone(self, row: int, column: int) -> str:
        """Return the colour's name: "good" or "bad"."""
        value = self.cells[row][column]
        return "good" if (row == column) == (value > 0) else "bad"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One example of a gallery. `picture` is the id of an inlined picture; None: it is none, or was not kept."""

    title: str
    picture: str | None
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Examples side by side."""

    caption: str
    cards: Sequence[Card]
    folded: bool = False
    kind: str = "gallery"


Block = Lines | Code | Table | Plot | Matrix | Gallery


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with blocks under it."""

    id: str
    title: str
    blocks: Sequence[Block]


def missing(reason: str) -> list[Block]:
    """Return the block that stands where a figure would: why it was not measured."""
    return [Lines(items=(f"{NOT_MEASURED}: {reason}",))]
