"""The examples whose answer changed, or whose output moved furthest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from edgeship.core.evidence import ChangedExample, Deviations, Histogram, OutputPair
from edgeship.core.measurement import Report, Row
from edgeship.validate.report.columns import share_percent
from edgeship.validate.report.html.blocks import NOT_MEASURED, Block, Card, Gallery, Lines, Plot, Table, missing
from edgeship.validate.report.html.chosen import chosen_row, integer_rows
from edgeship.validate.report.html.plots import SERIES, svg_of
from edgeship.validate.report.html.sections.classes import class_names
from edgeship.validate.subject.rows import row_label

SHOWN_VALUES = 6


def changed(report: Report, pictures: Collection[int]) -> Iterator[Block]:
    """Yield the examples to which integer files give another class than float Keras; the chosen file's are open."""
    chosen = chosen_row(report)
    rows = [row for row in integer_rows(report) if row.changed is not None]
    if not rows:
        yield from missing("answers that are classes were not compared with float Keras")
        return
    for row in sorted(rows, key=lambda row: row is not chosen):
        yield from _changed(report, row, pictures, folded=row is not chosen)
    if not pictures and any(row.changed is not None and row.changed.examples for row in rows):
        yield Lines(items=["The pictures were not kept with this report, or the inputs are no pictures."])


def moved(report: Report) -> Iterator[Block]:
    """Yield how far outputs that are no classes lie from float Keras's."""
    rows = [row for row in integer_rows(report) if row.deviations is not None]
    if not rows:
        yield from missing("outputs that are values were not compared with float Keras")
        return
    chosen = chosen_row(report)
    row = chosen if chosen is not None and chosen.deviations is not None else rows[0]
    assert row.deviations is not None
    yield from _deviations(row, row.deviations)


def _changed(report: Report, row: Row, pictures: Collection[int], *, folded: bool) -> Iterator[Block]:
    found, label = row.changed, row_label(row.artifact, row.runtime, row.target)
    assert found is not None
    share = share_percent(found.changed / found.compared) if found.compared else NOT_MEASURED
    sentence = f"{label}: {found.changed:,} of {found.compared:,} answers changed ({share})"
    if not found.examples:
        yield Lines(items=[sentence])
        return
    shown = "" if len(found.examples) == found.changed else f"; the {len(found.examples)} largest changes"
    write = _writer(found.examples)
    names = class_names(report, _classes(report))
    yield Gallery(
        caption=sentence + shown, folded=folded,
        cards=[_card(item, names, pictures, write) for item in found.examples],
    )


def _classes(report: Report) -> int:
    return len(report.labels) if report.float_classes is None else len(report.float_classes.examples)


def _writer(examples: Collection[ChangedExample]) -> Callable[[float | None], str]:
    """Return how outputs are written: as percent where all of them are shares."""
    values = [
        value for item in examples for value in (item.output, item.output_of_float_answer, item.float_output)
        if value is not None
    ]
    are_shares = all(0 <= value <= 1 for value in values)

    def write(value: float | None) -> str:
        if value is None:
            return NOT_MEASURED
        return share_percent(value, 1) if are_shares else f"{value:.3g}"

    return write


def _card(
    item: ChangedExample, names: list[str], pictures: Collection[int], write: Callable[[float | None], str]
) -> Card:
    def name(index: int) -> str:
        return names[index] if index < len(names) else str(index)

    lines = [
        f"float: {name(item.float_answer)} ({write(item.float_output)})",
        f"file: {name(item.answer)} ({write(item.output)})",
    ]
    if item.target is not None:
        outcome = {item.float_answer: "lost", item.answer: "gained"}.get(item.target, "wrong before and after")
        lines.append(f"right: {name(item.target)} ({outcome})")
    return Card(
        title=f"Example {item.index}", picture=f"example-{item.index}" if item.index in pictures else None, lines=lines
    )


def _deviations(row: Row, found: Deviations) -> Iterator[Block]:
    label = row_label(row.artifact, row.runtime, row.target)
    if found.distances is not None:
        yield Plot(
            svg=_bars([("distance", found.distances)], "root mean square difference from float Keras", (
                f"Histogram of the distances of {label} from float Keras over {found.compared} examples"
            )),
            caption=f"{label} against float Keras, {found.compared:,} test examples: distance of the outputs.",
        )
    if found.scores is not None and found.float_scores is not None:
        metric = "metric" if row.score is None else row.score.metric
        yield Plot(
            svg=_bars([("float Keras", found.float_scores), (row.artifact, found.scores)], f"{metric} of an example", (
                f"Histograms of the {metric} per example, of float Keras and of {label}"
            )),
            caption=f"Residuals: {metric} of each test example, by float Keras and by {label}.",
        )
    yield Table(
        caption=f"The examples whose outputs moved furthest: {label} and float Keras (the first numbers of the output)",
        columns=("example", "distance", "float Keras", row.artifact),
        rows=[
            [str(pair.index), f"{pair.distance:.4g}", _values(pair, pair.float_values), _values(pair, pair.values)]
            for pair in found.furthest
        ],
    )


def _values(pair: OutputPair, values: tuple[float, ...]) -> str:
    more = " ..." if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:.4g}" for value in values[:SHOWN_VALUES]) + more


def _bars(sides: list[tuple[str, Histogram]], unit: str, described: str) -> str:
    def draw(axes: Any) -> None:
        for place, (name, histogram) in enumerate(sides):
            axes.stairs(
                histogram.counts, histogram.edges, color=SERIES[place], fill=place == 0, alpha=0.5 if place == 0 else 1,
                label=name, linewidth=1.5,
            )
        if len(sides) > 1:
            axes.legend(loc="upper right")
        axes.set_xlabel(unit)
        axes.set_ylabel("examples")
        axes.yaxis.get_major_locator().set_params(integer=True)

    return svg_of(draw, height=2.8, described=described)
