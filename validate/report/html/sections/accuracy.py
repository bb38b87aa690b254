"""Accuracy or score: against latency, and paired with float Keras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgeship.core.measurement import Report, Row
from edgeship.validate.report.columns import LEGEND, cells, columns_of, points, share_percent
from edgeship.validate.report.html.blocks import Block, Lines, Plot, Table, missing
from edgeship.validate.report.html.plots import (
    FAINT,
    INK,
    MARKERS,
    SERIES,
    Bar,
    logarithmic,
    number_points,
    rows_plot,
    svg_of,
)
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.rows import CPU, KERAS, row_label

OTHER_KERNELS = "Kernels that no application runs: they check the others"
FORMATS = (".keras", ".tflite", ".onnx", ".ort")


def against_latency(report: Report) -> Iterator[Block]:
    """Yield a plot per target that measures time: a point per artifact and runtime, and the Pareto front."""
    found = False
    for target in dict.fromkeys(row.target for row in report.rows):
        rows = [
            row for row in report.rows
            if row.target == target and _has_figure(row) and _median(row) is not None
            and is_shipped(row)
        ]
        if not rows:
            continue
        found = True
        # A file that is made for other processors answers wrongly here, so its point is no choice.
        front = pareto_front([row for row in rows if row.for_others is None])
        place = "this machine" if target == CPU else target
        yield Plot(
            svg=_scatter(rows, front, f"Accuracy against latency on {place}: the numbers are in the table below"),
            caption=f"On {place}. {_better(rows)} and to the left is better"
            + ("; the line joins what no other point beats in both" if len(front) > 1 else "")
            + ". Vertical bars: 95 % intervals; horizontal bars: from the fastest to the slowest launch.",
        )
        yield Table(
            caption=f"The points on {place}; on the front: no other point is both faster and better",
            columns=("no.", "artifact", "runtime", "median ms", _name(rows), "on the front"),
            rows=[
                [
                    str(number), row.artifact, row.runtime, f"{_median(row):.3f}", _text(row),
                    "yes" if row in front else "" if row.for_others is None else "made for other processors",
                ]
                for number, row in enumerate(rows, 1)
            ],
            marked=frozenset(place for place, row in enumerate(rows) if row in front),
        )
    if not found:
        yield from missing("no row has both an accuracy and a latency")


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows than which no other is both faster and better, the fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (_median(row) or 0.0, -_worth(row))):
        if not front or _worth(row) > _worth(front[-1]):
            front.append(row)
    return front


def paired(report: Report) -> Iterator[Block]:
    """Yield each row's difference from float Keras on the same examples."""
    found = [(row, bar) for row in report.rows if (bar := _difference(row)) is not None]
    if not found:
        yield from missing("no row was compared with float Keras on labelled examples")
        return
    shipped, others = ([bar for row, bar in found if is_shipped(row) == wanted] for wanted in (True, False))
    unit = "percentage points" if any(row.accuracy for row in report.rows) else "the metric's own unit"
    yield Plot(
        svg=rows_plot(shipped or others, unit=f"difference from float Keras, {unit}", zero=True, described=(
            "Difference of each row from float Keras with its 95 % interval; the figures are in the table of all rows"
        )),
        caption="Paired: the same examples for both. An interval that includes 0 shows no difference.",
    )
    if shipped and others:
        yield Lines(items=[bar.label for bar in others], folded_under=OTHER_KERNELS)


def everything(report: Report) -> Iterator[Block]:
    """Yield the main table."""
    columns = columns_of(report.rows)
    yield Table(caption="All rows", columns=columns, rows=[cells(row, columns) for row in report.rows])
    yield Lines(items=LEGEND, folded_under="What the columns are")


def _scatter(rows: Sequence[Row], front: Sequence[Row], described: str) -> str:
    scale = 100 if rows[0].accuracy is not None else 1

    def draw(axes: Any) -> None:
        axes.plot([_median(row) for row in front], [_value(row) * scale for row in front], "-", color=INK, linewidth=1)
        for row in rows:
            series = format_place(row)
            x, y, (low, high) = _median(row) or 0.0, _value(row) * scale, _interval(row)
            axes.plot([x, x], [low * scale, high * scale], "-", color=SERIES[series], linewidth=1, alpha=0.5)
            medians = _launches(row)
            if medians:
                axes.plot([min(medians), max(medians)], [y, y], "-", color=SERIES[series], linewidth=1, alpha=0.5)
            axes.plot([x], [y], MARKERS[series], color=SERIES[series], markersize=5)
        for series in sorted({format_place(row) for row in rows}):
            axes.plot([], [], MARKERS[series], color=SERIES[series], label=FORMATS[series].removeprefix("."))
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), labelcolor=INK)
        logarithmic(axes)
        axes.grid(color=FAINT)
        axes.set_xlabel("median ms per inference (logarithmic)")
        axes.set_ylabel(_name(rows))
        number_points(axes, [(_median(row) or 0.0, _value(row) * scale) for row in rows])

    return svg_of(draw, height=3.6, described=described)


def _difference(row: Row) -> Bar | None:
    found: Bar | None = None
    label = row_label(row.artifact, row.runtime, row.target)
    if row.accuracy is not None and row.accuracy.delta is not None and row.accuracy.delta_ci95 is not None:
        low, high = row.accuracy.delta_ci95
        text = f"{label}: {points(row.accuracy.delta)} [{points(low)}, {points(high)}]"
        found = Bar(
            label=text, value=row.accuracy.delta * 100, low=low * 100, high=high * 100, series=format_place(row)
        )
    elif row.score is not None and row.score.delta is not None and row.score.delta_ci95 is not None:
        low, high = row.score.delta_ci95
        text = f"{label}: {row.score.delta:+.3g} [{low:+.3g}, {high:+.3g}]"
        found = Bar(label=text, value=row.score.delta, low=low, high=high, series=format_place(row))
    return found


def _has_figure(row: Row) -> bool:
    return row.accuracy is not None or row.score is not None


def _value(row: Row) -> float:
    if row.accuracy is not None:
        return row.accuracy.top1
    return 0.0 if row.score is None else row.score.value


def _worth(row: Row) -> float:
    return -_value(row) if row.score is not None and not row.score.higher_is_better else _value(row)


def _interval(row: Row) -> tuple[float, float]:
    if row.accuracy is not None:
        return row.accuracy.top1_ci95
    return (0.0, 0.0) if row.score is None else row.score.value_ci95


def _median(row: Row) -> float | None:
    return None if row.latency is None else row.latency.median_ms


def _launches(row: Row) -> list[float]:
    launches = () if row.latency is None else row.latency.launches
    return [launch.median_ms for launch in launches if launch.median_ms is not None]


def _name(rows: Sequence[Row]) -> str:
    score = rows[0].score
    return "top-1, %" if score is None else score.metric


def _better(rows: Sequence[Row]) -> str:
    score = rows[0].score
    return "Up" if score is None or score.higher_is_better else "Down"


def _text(row: Row) -> str:
    low, high = _interval(row)
    if row.accuracy is not None:
        return f"{share_percent(row.accuracy.top1)} [{low * 100:.2f}, {high * 100:.2f}]"
    return f"{_value(row):.4g} [{low:.4g}, {high:.4g}]"


def is_shipped(row: Row) -> bool:
    """Return whether an application runs the file so; the other runtimes only check the kernels of these."""
    return row.runtime == KERAS or RUNTIMES[row.runtime].production


def format_place(row: Row) -> int:
    """Return the place of the file's format among FORMATS, which is its colour and its marker."""
    return next((place for place, suffix in enumerate(FORMATS) if row.artifact.endswith(suffix)), 0)
