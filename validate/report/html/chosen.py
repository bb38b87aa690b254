"""Which row stands for the integer files, where there is room for one."""

from __future__ import annotations

import math

from edgeship.core.measurement import Report, Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.subject.rows import CPU, KERAS


def float_row(report: Report) -> Row | None:
    """Return float Keras's row on this machine; None where it did not run."""
    return next((row for row in report.rows if row.runtime == KERAS and row.target == CPU), None)


def integer_rows(report: Report) -> list[Row]:
    """Return the rows of integer files that ran, on the runtimes that users run, this machine's first."""
    rows = [
        row for row in report.rows
        if SCHEMES[row.scheme].integer and row.error is None and RUNTIMES[row.runtime].production
    ]
    return sorted(rows, key=lambda row: row.target != CPU)


def chosen_row(report: Report) -> Row | None:
    """Return the row of the first file to ship that is an integer file and ran where it is to go.

    Where no such file ran, the integer row with the best figure on this machine, of equal ones the fastest; None
    without any.
    """
    rows = [row for row in integer_rows(report) if row.for_others is None]
    shipped = (
        row for line in report.ship for row in rows if (row.artifact, row.runtime) == (line.file, line.runtime)
    )
    return next(shipped, None) or min(rows, key=_rank, default=None)


def _rank(row: Row) -> tuple[bool, float, float]:
    latency = math.inf if row.latency is None or row.latency.median_ms is None else row.latency.median_ms
    return row.target != CPU, -_quality(row), latency


def _quality(row: Row) -> float:
    if row.accuracy is not None:
        return row.accuracy.top1
    if row.score is not None:
        return row.score.value if row.score.higher_is_better else -row.score.value
    return -math.inf if row.parity is None or row.parity.sqnr_db is None else row.parity.sqnr_db
