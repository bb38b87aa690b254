"""Latency launch by launch, targets side by side, memory and sizes."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.measurement import Report, Row
from edgeship.validate.report.columns import NOT_MEASURED as DASH
from edgeship.validate.report.columns import cells, megabytes, share_percent
from edgeship.validate.report.html.blocks import NOT_MEASURED, Block, Lines, Plot, Table, missing
from edgeship.validate.report.html.plots import Bar, rows_plot
from edgeship.validate.report.html.sections.accuracy import format_place, is_shipped
from edgeship.validate.report.markdown import DETAILS, DETAILS_LEGEND
from edgeship.validate.subject.rows import CPU, row_label

SPEED = ("artifact", "runtime", "target", "median ms", "p90 ms", "speed-up [95 %]", "M instructions")


def launches(report: Report) -> Iterator[Block]:
    """Yield the medians of each row's launches, and the figures in detail."""
    timed = [row for row in report.rows if row.latency is not None]
    if not timed:
        yield from missing("no latency: nothing ran on a target whose time counts")
        return
    bars = [bar for row in timed if is_shipped(row) and (bar := _bar(row)) is not None]
    if bars:
        yield Plot(
            svg=rows_plot(bars, unit="ms per inference (logarithmic)", is_logarithmic=True, described=(
                "Median latency of each launch of each row that applications run; all figures are in the table below"
            )),
            caption="Small dots: the median of one launch, a fresh process; large mark: the median of all inferences; "
            "line: an interval of 95 % or more for the launches' median, where there are 6 launches or more.",
        )
    columns = [name for name in SPEED if name != "M instructions" or any(row.instructions for row in report.rows)]
    yield Table(caption="Speed", columns=columns, rows=[cells(row, columns) for row in report.rows])
    yield Table(
        caption="In detail", columns=("artifact", "runtime", "target", *DETAILS),
        rows=[
            [row.artifact, row.runtime, row.target, *(draw(row.latency) for draw in DETAILS.values())]
            for row in timed if row.latency is not None
        ],
        folded=True,
    )
    yield Lines(items=DETAILS_LEGEND, folded_under="What the columns are")


def targets(report: Report) -> Iterator[Block]:
    """Yield each artifact on each target: agreement with this machine, and speed."""
    names = list(dict.fromkeys(row.target for row in report.rows))
    if len(names) < 2:
        where = "this machine" if names in ([], [CPU]) else names[0]
        yield from missing(f"the files ran on {where} alone; name others with --on")
        return
    files = dict.fromkeys(row.artifact for row in report.rows)
    yield Table(
        caption="Artifacts on targets: top-1 or agreement, largest difference from this machine, speed",
        columns=("artifact", *names),
        rows=[[file, *(_cell(report, file, name) for name in names)] for file in files],
    )


def memory(report: Report) -> Iterator[Block]:
    """Yield file sizes, peak memory of a process, activations and parameters; and that energy was not measured."""
    networks = {item.artifact: item for item in report.networks}
    rows = []
    for row in report.rows:
        network = networks.get(row.artifact)
        rows.append([
            row.artifact, row.runtime, row.target, megabytes(row.size_bytes), _or_not(megabytes(row.peak_memory_bytes)),
            NOT_MEASURED if network is None or network.arena_bytes is None else f"{network.arena_bytes:,} B",
            NOT_MEASURED if network is None else f"{network.parameters:,}", NOT_MEASURED,
        ])
    yield Table(
        caption="Memory and sizes",
        columns=(
            "artifact", "runtime", "target", "file", "peak memory", "activations at once", "parameters", "energy",
        ),
        rows=rows,
    )
    yield Lines(items=[
        "peak memory: of a whole process that loads the file and infers a few times, the runtime included",
        "activations at once: the most bytes of tensors that are alive together, by the file's own order and types; "
        "a file whose layers are joined by conversions (QDQ) does not tell",
        "energy: edgeship does not measure it",
    ])


def _bar(row: Row) -> Bar | None:
    latency = row.latency
    assert latency is not None
    medians = sorted(launch.median_ms for launch in latency.launches if launch.median_ms is not None)
    if latency.median_ms is None:
        return None
    # Between the smallest and the largest of n observations lies the median with probability 1 - 2 / 2^n: 97 % for 6.
    low, high = (medians[0], medians[-1]) if len(medians) >= 6 else (None, None)
    return Bar(
        label=f"{row_label(row.artifact, row.runtime, row.target)}: {latency.median_ms:.3f} ms",
        value=latency.median_ms, low=low, high=high, points=medians, series=format_place(row),
    )


def _cell(report: Report, file: str, target: str) -> str:
    """Return what an artifact's rows on one target come to, one line per runtime."""
    rows = [row for row in report.rows if row.artifact == file and row.target == target]
    return "; ".join(map(_in_short, rows)) or DASH


def _in_short(row: Row) -> str:
    if row.error is not None:
        return f"{row.runtime}: {'refused' if row.refused else 'failed'}"
    told = []
    if row.accuracy is not None:
        told.append(f"top-1 {share_percent(row.accuracy.top1)}")
    elif row.score is not None:
        told.append(f"{row.score.metric} {row.score.value:.4g}")
    if row.target != CPU and row.parity is not None and row.parity.max_lsb is not None:
        told.append(f"{row.parity.max_lsb} LSB")
    if row.latency is not None and row.latency.median_ms is not None:
        told.append(f"{row.latency.median_ms:.3f} ms")
    if row.instructions is not None:
        told.append(f"{row.instructions / 1e6:.1f} M instructions")
    return f"{row.runtime}: {', '.join(told) or NOT_MEASURED}"


def _or_not(text: str) -> str:
    return NOT_MEASURED if text == DASH else text
