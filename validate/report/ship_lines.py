"""What to ship, as text: the cells of its table, and the sentence of each line."""

from __future__ import annotations

from collections.abc import Sequence

from edgeship.core.ship import BY_INSTRUCTIONS, ShipLine
from edgeship.validate.report.columns import points, share_percent

SHIP_COLUMNS = ("where", "file", "size", "accuracy [95 %]", "speed [95 %]")
TOP1 = "top1"
NOT_MEASURED = "not measured"
VERDICTS = {"pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive", "refused": "not proven"}


def ship_legend(ship: Sequence[ShipLine]) -> str:
    """Return what the columns are, with the metric of the lines."""
    metrics = dict.fromkeys(line.metric for line in ship if line.delta is not None and line.metric is not None)
    scored = "".join(f", {'top-1 in points' if metric == TOP1 else metric}" for metric in metrics)
    return (
        f"size and speed: of the float32 file of the same runtime (2.00: twice as fast); accuracy: against float Keras"
        f"{scored}; exact kernels give the same integers everywhere, so it is measured where they are"
    )


def ship_cells(line: ShipLine) -> list[str]:
    """Return one line's cells, in the order of SHIP_COLUMNS."""
    size = "" if line.size_share is None else share_percent(line.size_share, 0)
    return [line.words, line.file or "none", size, _accuracy(line), _speed(line)]


def ship_sentence(line: ShipLine) -> str:
    """Return whether the file is good enough, and why this one."""
    parts = [f"{VERDICTS[line.verdict]}: {line.why}"]
    if line.speedup_missing is not None:
        parts.append(f"speed: {line.speedup_missing}")
    return "; ".join(parts)


def ship_sources(ship: Sequence[ShipLine]) -> list[str]:
    """Return where each line's accuracy and speed were measured."""
    return [
        f"{line.words}: accuracy of {line.accuracy_of or 'no row'}; speed of {line.speedup_of or 'no row'}"
        + ("" if line.speedup_of is None else f" against {line.float_file}")
        for line in ship if line.file is not None
    ]


def _accuracy(line: ShipLine) -> str:
    if line.delta is None or line.delta_ci95 is None:
        return NOT_MEASURED
    lower, upper = line.delta_ci95
    if line.metric == TOP1:
        return f"{points(line.delta)} [{points(lower)}, {points(upper)}]"
    return f"{line.delta:+.3g} [{lower:+.3g}, {upper:+.3g}]"


def _speed(line: ShipLine) -> str:
    if line.speedup is None:
        return NOT_MEASURED
    if line.speedup_by == BY_INSTRUCTIONS:
        return f"{line.speedup:.2f} (instructions)"
    if line.speedup_ci95 is None:
        return f"{line.speedup:.2f}"
    lower, upper = line.speedup_ci95
    return f"{line.speedup:.2f} [{lower:.2f}, {upper:.2f}]"
