"""`history.html`: accuracy, size and latency over many reports, or over the lines of a `history.csv`, as one page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.core.errors import InputError
from edgeship.core.measurement import REPORT_FILE, Report, Row
from edgeship.validate.compare.forms.history import COLUMNS, read_history
from edgeship.validate.report.html.blocks import NOT_MEASURED, Block, Plot, Section, Table, missing
from edgeship.validate.report.html.page import page_of
from edgeship.validate.report.html.plots import MARKERS, SERIES, svg_of
from edgeship.validate.report.report import load_report
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.rows import KERAS, row_label

HISTORY_FILE, HTML_FILE = "history.csv", "history.html"
MOST_SERIES = len(SERIES)  # of a plot: more lines than colours cannot be told apart
OUTCOMES = {"pass": "good", "improved": "good", "fail": "bad", "regression": "bad"}
WORST_FIRST = ("fail", "regression", "refused", "inconclusive", "pass", "improved")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One figure's place in time: a row of a report, or a line of a history."""

    time: str  # ISO 8601
    name: str  # "int8-qat.onnx / onnxruntime"
    verdict: str
    source: str  # the report's folder, or the commit
    values: dict[str, float | None]  # figure -> value; None: not measured


# What is drawn, with its unit; in the order of the sections.
FIGURES: dict[str, str] = {
    "accuracy": "top-1, %, or the metric's own unit", "latency ratio": "candidate / baseline; above 1 is slower",
    "speed-up": "times as fast as the reference of the same report", "median ms": "ms per inference",
    "size": "MB", "instructions": "millions per inference",
}


def read_entries(folder: Path) -> list[Entry]:
    """Return what a folder has of the past, the oldest first: `history.csv` files and reports in it and below it.

    Args:
        folder: a folder, or one `history.csv`.

    Raises:
        InputError: nothing of the kind there, or a file that cannot be read.
    """
    files = [folder] if folder.is_file() else [*folder.rglob(HISTORY_FILE), *folder.rglob(REPORT_FILE)]
    found = [entry for path in sorted(files) for entry in _entries(path)]
    if not found:
        raise InputError(
            f"{folder}: expected a folder with {REPORT_FILE} or {HISTORY_FILE} files in it or below it, found none "
            "with a line; name the folder that reports were kept in, or a history.csv"
        )
    return sorted(found, key=lambda entry: entry.time)


def history_to_html(entries: Sequence[Entry], *, title: str) -> str:
    """Return the page; the same entries give the same text.

    Raises:
        ModuleNotFoundError: Jinja2 or matplotlib is not installed (edgeship[report]).
    """
    last = [entry for entry in entries if (entry.time, entry.source) == (entries[-1].time, entries[-1].source)]
    verdict = min((entry.verdict for entry in last), key=WORST_FIRST.index)
    sections = [
        Section(id=figure.replace(" ", "-"), title=figure.capitalize(), blocks=list(_trend(entries, figure, unit)))
        for figure, unit in FIGURES.items()
    ]
    sections.append(Section(id="entries", title="Every entry", blocks=[_table(entries)]))
    return page_of(
        title=title, verdict=verdict, headline=f"The latest verdict is {verdict}",
        facts=(f"{len(entries):,} entries", f"{entries[0].time} to {entries[-1].time}"), sections=sections,
    )


def _entries(path: Path) -> Iterator[Entry]:
    if path.name != REPORT_FILE:
        for number, line in enumerate(csv.DictReader(io.StringIO(read_history(path))), 2):
            yield _of_line(line, f"{path}, line {number}")
        return
    report = load_report(path)
    for row in report.rows:
        if row.error is None and (row.runtime == KERAS or RUNTIMES[row.runtime].production):
            yield _of_row(report, row, path.parent.name)


def _of_row(report: Report, row: Row, source: str) -> Entry:
    latency = row.latency
    accuracy = None if row.score is None else row.score.value
    if row.accuracy is not None:
        accuracy = row.accuracy.top1 * 100
    return Entry(
        time=report.created_at, name=row_label(row.artifact, row.runtime, row.target), verdict=report.verdict,
        source=source,
        values={
            "accuracy": accuracy, "latency ratio": None, "speed-up": None if latency is None else latency.speedup,
            "median ms": None if latency is None else latency.median_ms,
            "size": None if row.size_bytes is None else row.size_bytes / 1e6,
            "instructions": None if row.instructions is None else row.instructions / 1e6,
        },
    )


def _of_line(row: dict[str, Any], where: str) -> Entry:
    if None in row or None in row.values() or row["verdict"] not in WORST_FIRST:
        raise InputError(
            f"{where}: expected {len(COLUMNS)} cells with one of the verdicts {', '.join(WORST_FIRST)}, found another "
            "line; remove it, or begin a new history"
        )
    size, instructions = _number(row, "size_bytes", where), _number(row, "instructions", where)
    return Entry(
        time=row["time"], name=row_label(row["name"], row["runtime"], row["target"]), verdict=row["verdict"],
        source=row["commit"][:12] or "no commit",
        values={
            "accuracy": None, "latency ratio": _number(row, "ratio", where), "speed-up": None,
            "median ms": _number(row, "median_ms", where), "size": None if size is None else size / 1e6,
            "instructions": None if instructions is None else instructions / 1e6,
        },
    )


def _number(row: dict[str, Any], key: str, where: str) -> float | None:
    text = row[key]
    try:
        return float(text) if text else None
    except ValueError as error:
        raise InputError(f"{where}: {key}: expected a number or nothing, found {text[:60]!r}; mend the line") from error


def _trend(entries: Sequence[Entry], figure: str, unit: str) -> Iterator[Block]:
    """Yield plots of one figure, each of at most MOST_SERIES lines."""
    known = [entry for entry in entries if entry.values[figure] is not None]
    if not known:
        yield from missing(f"no entry has this figure ({figure})")
        return
    names = list(dict.fromkeys(entry.name for entry in known))
    order = _places(entries)
    for start in range(0, len(names), MOST_SERIES):
        part = names[start : start + MOST_SERIES]
        yield Plot(
            svg=svg_of(
                _drawing(known, part, order, figure, unit), height=3.2 + 0.2 * len(part),
                described=f"{figure} of {', '.join(part)} over {len(order)} entries; the figures are in the last table",
            ),
            caption=f"{figure} ({unit}), the oldest on the left. A cross marks a verdict that is a failure or a "
            "regression, an open ring one that decides nothing.",
        )


def _drawing(
    known: Sequence[Entry], names: Sequence[str], order: dict[tuple[str, str], int], figure: str, unit: str
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for place, name in enumerate(names):
            own = [entry for entry in known if entry.name == name]
            spots = [(order[entry.time, entry.source], entry.values[figure]) for entry in own]
            axes.plot(
                *zip(*spots, strict=True), "-", marker=MARKERS[place], color=SERIES[place], markersize=4, linewidth=1,
                label=name,
            )
            for (x, y), entry in zip(spots, own, strict=True):
                outcome = OUTCOMES.get(entry.verdict)
                if outcome != "good":
                    mark = "x" if outcome == "bad" else "o"
                    axes.plot([x], [y], mark, color=SERIES[place], markersize=10, markerfacecolor="none")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("entry, the oldest first")
        axes.set_ylabel(unit)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0))

    return draw


def _places(entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
    """Return the place of each report or comparison along the plots, from 1."""
    stamps = dict.fromkeys((entry.time, entry.source) for entry in entries)
    return {stamp: place for place, stamp in enumerate(stamps, 1)}


def _table(entries: Sequence[Entry]) -> Table:
    places = _places(entries)
    return Table(
        caption="Every entry, the latest first; no.: the place in the plots",
        columns=("no.", "time", "commit or folder", "row", "verdict", *FIGURES),
        rows=[
            [
                str(places[entry.time, entry.source]), entry.time, entry.source, entry.name, entry.verdict,
                *(NOT_MEASURED if value is None else f"{value:.4g}" for value in entry.values.values()),
            ]
            for entry in reversed(entries)
        ],
        marked=frozenset(
            place for place, entry in enumerate(reversed(entries)) if OUTCOMES.get(entry.verdict) == "bad"
        ),
    )

