"""The verdict, what it does not judge, and which file to ship."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.measurement import Report
from edgeship.validate.report.columns import cells, columns_of
from edgeship.validate.report.html.blocks import Block, Lines, Table, missing
from edgeship.validate.report.html.chosen import chosen_row, float_row
from edgeship.validate.report.markdown import AGREEMENT_COLUMNS, agreement_cells, grid_sentence, kept_lines
from edgeship.validate.report.ship_lines import (
    SHIP_COLUMNS,
    ship_cells,
    ship_legend,
    ship_sentence,
    ship_sources,
)

SHIPPING = ("artifact", "runtime", "target", "size", "top-1", "score", "delta, points [95 %]", "speed-up [95 %]")


def failures(report: Report) -> Iterator[Block]:
    """Yield why the verdict is not "pass", and what it says nothing of."""
    if report.failures:
        yield Lines(items=report.failures)
    if report.not_judged:
        yield Lines(items=[f"not judged: {reason}" for reason in report.not_judged])


def ship(report: Report) -> Iterator[Block]:
    """Yield which file goes where; of a report that does not say so, the best integer file beside the float model."""
    if report.ship:
        yield Table(
            caption="Which file goes where, and whether it is good enough there", columns=(*SHIP_COLUMNS, "why"),
            rows=[[*ship_cells(line), ship_sentence(line)] for line in report.ship],
            marked=frozenset(place for place, line in enumerate(report.ship) if line.verdict == "fail" or line.slower),
            stacked=True,
        )
        yield Lines(items=[ship_legend(report.ship)])
        yield Lines(items=ship_sources(report.ship), folded_under="Where each line was measured")
        return
    chosen = chosen_row(report)
    if chosen is None:
        yield from missing("no integer file of this bundle ran on a runtime that users run")
        return
    rows = [row for row in (float_row(report), chosen) if row is not None]
    columns = [name for name in SHIPPING if name in columns_of(rows)]
    yield Table(
        caption="The float model, and the integer file with the best answers on this machine", columns=columns,
        rows=[cells(row, columns) for row in rows], marked=frozenset({len(rows) - 1}),
    )
    if kept := list(kept_lines(report)):
        yield Lines(items=kept)


def formats(report: Report) -> Iterator[Block]:
    """Yield how the TFLite and the ONNX files of each scheme compare, tensor by tensor and answer by answer."""
    if not report.grids and not report.agreements:
        yield from missing("no scheme has files in both formats, or their rows did not run")
        return
    if report.grids:
        yield Lines(items=[f"{grid.onnx} against {grid.tflite}: {grid_sentence(grid)}" for grid in report.grids])
    mismatches = [f"{grid.onnx}: {mismatch}" for grid in report.grids for mismatch in grid.mismatches]
    if mismatches:
        yield Lines(items=mismatches)
    if report.agreements:
        yield Table(
            caption=f"Pairs of rows on the same {report.agreements[0].images:,} examples; difference: second minus "
            "first",
            columns=AGREEMENT_COLUMNS, rows=[agreement_cells(item) for item in report.agreements], folded=True,
        )
