"""The columns of the main table, as text: one place for units, digits and what is not a number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from edgeship.core.measurement import Accuracy, Coverage, Latency, Parity, Row
from edgeship.core.schemes import SCHEMES
from edgeship.validate.subject.rows import KERAS

NOT_MEASURED = "-"
NOT_APPLICABLE = "n/a"
REFERENCE = "reference"
EXACT = "exact"
FOR_OTHERS = "made for others"

LEGEND = (
    f"{NOT_MEASURED}: not measured, or the row failed before",
    f"{NOT_APPLICABLE}: does not apply (what computes in float, or quantizes when it runs, promises no integer "
    "operations and has no LSB)",
    f"{REFERENCE}: float Keras, which the others are compared with",
    f"{EXACT}: no difference at all, so the ratio is infinite",
    f"{FOR_OTHERS}: the file is for other processors than the target has, so the verdict does not depend on the row",
    "delta: paired with float Keras on the same test examples, in percentage points (of a score that is no top-1, in "
    "its own unit), with its 95 % interval",
    "SQNR: of the golden examples' outputs against float Keras",
    "max LSB: test outputs against those of the other format on the same integer grid; on another target than cpu, "
    "against the same artifact on this machine",
    "same top-1: share of the test examples with the answer of the row that max LSB compares with",
    "integer ops: of the operations the runtime really executed; kept: in float on purpose, with their conversions",
    "ms: one example, without preprocessing; in parentheses the launches (fresh processes) it was measured in; an "
    "emulator's time is none, so it is not measured",
    "speed-up: over float Keras on the same target (where there is none, over the float32 file of the same format and "
    "runtime), from one ratio per launch, with its exact 95 % interval where there are enough launches; of one thread "
    "by its CPU time, otherwise by wall time",
    "M instructions: millions executed per inference on one thread of an emulated processor; no time, but exact",
)


def share_percent(share: float, digits: int = 2) -> str:
    """Write a share as percent: 0.975 -> "97.50 %"."""
    return f"{share * 100:.{digits}f} %"


def points(share: float) -> str:
    """-0.002 -> "-0.20" (percentage points)."""
    return f"{share * 100:+.2f}"


def megabytes(size_bytes: int | None) -> str:
    """1,404,928 -> "1.40 MB" (decimal)."""
    return NOT_MEASURED if size_bytes is None else f"{size_bytes / 1e6:.2f} MB"


def cells(row: Row, columns: Collection[str] | None = None) -> list[str]:
    """One row of the main table, in the chosen columns or in all."""
    return [draw(row) for name, draw in COLUMNS.items() if columns is None or name in columns]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns of these rows' main table: a classifier's top-1, or another model's score, and not both."""
    has_scores = any(row.score is not None for row in rows)
    has_classes = any(row.accuracy is not None for row in rows)
    absent = {"score": not has_scores, "top-1": has_scores and not has_classes}
    return [name for name in COLUMNS if not absent.get(name, False)]


def _score(row: Row) -> str:
    return NOT_MEASURED if row.score is None else f"{row.score.metric} {row.score.value:.4g}"


def _delta(row: Row) -> str:
    accuracy: Accuracy | None = row.accuracy
    if row.runtime == KERAS and (accuracy is not None or row.score is not None):
        return REFERENCE
    if row.score is not None and row.score.delta is not None and row.score.delta_ci95 is not None:
        lower, upper = row.score.delta_ci95
        return f"{row.score.delta:+.3g} [{lower:+.3g}, {upper:+.3g}]"
    if accuracy is None or accuracy.delta is None or accuracy.delta_ci95 is None:
        return NOT_MEASURED
    lower, upper = accuracy.delta_ci95
    return f"{points(accuracy.delta)} [{points(lower)}, {points(upper)}]"


def _agreement(row: Row) -> str:
    if row.runtime == KERAS and row.accuracy is not None:
        return REFERENCE
    known = row.accuracy or row.parity
    if known is None or known.agreement is None:
        return NOT_MEASURED
    return share_percent(known.agreement)


def _sqnr(row: Row) -> str:
    parity: Parity | None = row.parity
    if parity is None:
        return NOT_MEASURED
    if parity.sqnr_db is None:
        return EXACT if parity.max_abs_error == 0 else NOT_MEASURED
    return f"{parity.sqnr_db:.1f}"


def _max_lsb(row: Row) -> str:
    if not SCHEMES[row.scheme].integer:
        return NOT_APPLICABLE
    return NOT_MEASURED if row.parity is None or row.parity.max_lsb is None else str(row.parity.max_lsb)


def _coverage(row: Row) -> str:
    coverage: Coverage | None = row.coverage
    if not SCHEMES[row.scheme].integer:
        return NOT_APPLICABLE
    if coverage is None:
        return NOT_MEASURED
    kept = f" ({len(coverage.kept_float)} kept)" if coverage.kept_float else ""
    return f"{coverage.integer}/{coverage.total}{kept}"


def _latency(figure: Callable[[Latency], float | None]) -> Callable[[Row], str]:
    def draw(row: Row) -> str:
        value = None if row.latency is None else figure(row.latency)
        return NOT_MEASURED if value is None else f"{value:.3f}"

    return draw


def _median(row: Row) -> str:
    """With the number of launches: no figure of one process is worth much."""
    if row.latency is None or row.latency.median_ms is None:
        return NOT_MEASURED
    return f"{row.latency.median_ms:.3f} ({len(row.latency.launches)})"


def _speedup(row: Row) -> str:
    latency: Latency | None = row.latency
    if row.runtime == KERAS and latency is not None:
        return REFERENCE
    if latency is None or latency.speedup is None:
        return NOT_MEASURED
    if latency.speedup_ci95 is None:
        return f"{latency.speedup:.2f}"
    lower, upper = latency.speedup_ci95
    return f"{latency.speedup:.2f} [{lower:.2f}, {upper:.2f}]"


def _same_top1(row: Row) -> str:
    share = None if row.parity is None else row.parity.sibling_agreement
    return NOT_MEASURED if share is None else share_percent(share)


def _kind(row: Row) -> str:
    """Where a row was measured, of what kind that is, and whether its file is made for other processors."""
    said = [*([] if row.kind == "native" else [row.kind]), *([] if row.for_others is None else [FOR_OTHERS])]
    return f"{row.target} ({', '.join(said)})" if said else row.target


def _instructions(row: Row) -> str:
    """Empty where there is nothing to count: time is measured there."""
    if row.instructions is None:
        return NOT_MEASURED if row.kind == "emulated" else ""
    return f"{row.instructions / 1e6:.1f}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "artifact": lambda row: row.artifact,
    "runtime": lambda row: row.runtime,
    "target": _kind,
    "size": lambda row: megabytes(row.size_bytes),
    "top-1": lambda row: NOT_MEASURED if row.accuracy is None else share_percent(row.accuracy.top1),
    "score": _score,
    "delta, points [95 %]": _delta,
    "agreement": _agreement,
    "SQNR dB": _sqnr,
    "max LSB": _max_lsb,
    "same top-1": _same_top1,
    "integer ops": _coverage,
    "median ms": _median,
    "p90 ms": _latency(lambda latency: latency.p90_ms),
    "speed-up [95 %]": _speedup,
    "M instructions": _instructions,
    "error": lambda row: "" if row.error is None else f"{'refused' if row.refused else 'failed'}, see below",
}
