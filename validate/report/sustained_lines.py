"""Sustained speed in words and in a table: the first window against the last one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgeship.core.measurement import Row
from edgeship.core.sustained import Sustained
from edgeship.validate.report.columns import NOT_MEASURED, share_percent
from edgeship.validate.subject.rows import row_label

SUSTAINED_COLUMNS = (
    "artifact", "runtime", "target", "seconds", "holds", "inferences per s, first -> last", "median ms", "clock MHz",
    "temperature C",
)
SUSTAINED_LEGEND = (
    "holds: inferences per second in the last window (about 10 s) as a share of those in the first one, of one process "
    "that infers without a pause (validate.sustained_seconds)",
    "clock: the fastest core's, temperature: the warmest sensor's, at the end of each of the two windows",
)


def sustained_rows(rows: Iterable[Row]) -> list[tuple[Row, Sustained]]:
    """Return the rows whose sustained speed was measured, with it."""
    return [(row, row.sustained) for row in rows if row.sustained is not None]


def sustained_cells(row: Row, found: Sustained) -> list[str]:
    """Return a row's cells, in the order of SUSTAINED_COLUMNS."""
    first, last = found.windows[0], found.windows[-1]
    return [
        row.artifact, row.runtime, row.target, f"{found.seconds:.0f}", share_percent(found.held, 0),
        f"{first.per_second:,.1f} -> {last.per_second:,.1f}", f"{first.median_ms:.3f} -> {last.median_ms:.3f}",
        _both(first.clock_mhz, last.clock_mhz), _both(first.temperature_c, last.temperature_c),
    ]


def sustained_sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield one sentence for each row that was measured."""
    for row, found in sustained_rows(rows):
        yield (
            f"{row_label(row.artifact, row.runtime, row.target)}: holds {share_percent(found.held, 0)} after "
            f"{found.seconds:.0f} s"
        )


def _both(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return NOT_MEASURED
    return f"{first:,.0f} -> {last:,.0f}"
