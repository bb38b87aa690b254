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
    """Return the integer row with the best figure on this machine, of equal ones the fastest; None without any."""
    return min(integer_rows(report), key=_rank, default=None)


def _rank(row: Row) -> tuple[bool, float, float]:
    latency = math.inf if row.latency is None or row.latency.median_ms is None else row.latency.median_ms
    return row.target != CPU, -_quality(row), latency


def _quality(row: Row) -> float:
    if row.accuracy is not None:
        return row.accuracy.top1
    if row.score is not None:
        return row.score.value if row.score.higher_is_better else -row.score.value
    return -math.inf if row.parity is None or row.parity.sqnr_db is None else row.parity.sqnr_db
