"""Does each row keep its speed while it runs without a pause?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from edgeship.core.measurement import Report
from edgeship.validate.report.html.blocks import Block, Lines, Plot, Table
from edgeship.validate.report.html.plots import MARKERS, SERIES, svg_of
from edgeship.validate.report.sustained_lines import (
    SUSTAINED_COLUMNS,
    SUSTAINED_LEGEND,
    sustained_cells,
    sustained_rows,
)
from edgeship.validate.subject.rows import row_label

HEIGHT, LEGEND_LINE = 2.4, 0.17  # inches


def sustained(report: Report) -> Iterator[Block]:
    """Yield each row's throughput over time, as a share of its first window's, and the figures."""
    found = sustained_rows(report.rows)

    def draw(axes: Any) -> None:
        for place, (row, measured) in enumerate(found):
            axes.plot(
                list(accumulate(window.seconds for window in measured.windows)),
                [100 * window.per_second / measured.windows[0].per_second for window in measured.windows],
                marker=MARKERS[place % len(MARKERS)], markersize=4, color=SERIES[place % len(SERIES)],
                label=row_label(row.artifact, row.runtime, row.target),
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds without a pause")
        axes.set_ylabel("inferences per second, %")
        axes.figure.legend(loc="outside lower center")

    yield Plot(
        svg=svg_of(draw, height=HEIGHT + LEGEND_LINE * len(found), described=(
            "Inferences per second of each row over time, in per cent of its first window; the table below has them"
        )),
        caption="Each mark: a window of about 10 s; 100 %: the row's own first one.",
    )
    yield Table(
        caption="First window and last window", columns=SUSTAINED_COLUMNS,
        rows=[sustained_cells(row, measured) for row, measured in found],
    )
    yield Lines(items=SUSTAINED_LEGEND)
