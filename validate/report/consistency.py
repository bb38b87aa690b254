"""What the types of `report.json` do not say: words that have a meaning, and lists that belong together."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.core.evidence import ClassCounts
from edgeship.core.measurement import Report
from edgeship.core.schemes import SCHEMES
from edgeship.validate.runner.table import RUNTIMES

VERDICTS = ("pass", "fail", "inconclusive", "refused")


def check_report(report: Report) -> None:
    """Check a report from a file. Raises ValueError: the place, what was expected, what was found."""
    for place, word, expected in _words(report):
        if word not in expected:
            raise ValueError(f"{place}: expected one of {', '.join(expected)}, found {word!r}")
    counts = {"float_classes": report.float_classes} | {
        f"rows[{index}].classes": row.classes for index, row in enumerate(report.rows)
    }
    sizes = {place: _classes(place, item) for place, item in counts.items() if item is not None}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"expected as many classes everywhere, found {sizes}")


    for index, row in enumerate(report.rows):
        found = row.deviations
        for histogram in () if found is None else (found.distances, found.scores, found.float_scores):
            if histogram is not None and len(histogram.edges) != len(histogram.counts) + 1:
                raise ValueError(
                    f"rows[{index}].deviations: expected one more edge than counts, found {len(histogram.edges)} and "
                    f"{len(histogram.counts)}"
                )


def _words(report: Report) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(place, the word there, the words that may be there)."""
    yield "verdict", report.verdict, VERDICTS
    for index, row in enumerate(report.rows):
        yield f"rows[{index}].scheme", row.scheme, tuple(SCHEMES)
        yield f"rows[{index}].runtime", row.runtime, tuple(RUNTIMES)
    for index, line in enumerate(report.ship):
        yield f"ship[{index}].verdict", line.verdict, VERDICTS


def _classes(place: str, counts: ClassCounts) -> int:
    """Return how many classes the counts are of. Raises ValueError where their lists differ in length."""
    lists = [counts.examples, counts.answered, counts.right]
    if counts.confusion is not None:
        lists += [counts.confusion, *counts.confusion]  # type: ignore[list-item]
    lengths = sorted({len(item) for item in lists})
    if len(lengths) != 1:
        raise ValueError(f"{place}: expected lists of one length, found {', '.join(map(str, lengths))}")
    return lengths[0]
