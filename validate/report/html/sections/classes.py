"""Classes: confusion matrices, precision, recall and F1, and the largest drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeship.core.evidence import ClassCounts
from edgeship.core.measurement import Report
from edgeship.validate.report.columns import share_percent
from edgeship.validate.report.html.blocks import Block, Lines, Matrix, Table, missing
from edgeship.validate.report.html.chosen import chosen_row
from edgeship.validate.subject.rows import row_label

MOST_IN_A_MATRIX = 20  # classes; above, a table of the commonest confusions is read more easily
MOST_CONFUSIONS, MOST_LINES = 20, 50
NO_ANSWERS, NO_EXAMPLES = "never answered", "no examples"  # where there is nothing to divide by
NO_CLASSES = "the answers are no classes, or no labels were given"


def confusion(report: Report) -> Iterator[Block]:
    """Yield the matrices of float Keras and of the chosen integer file, and their difference."""
    chosen = chosen_row(report)
    own = None if chosen is None else chosen.classes
    floats = report.float_classes
    if floats is None or own is None or chosen is None:
        yield from missing(NO_CLASSES)
        return
    names = class_names(report, len(floats.examples))
    label = row_label(chosen.artifact, chosen.runtime, chosen.target)
    if floats.confusion is None or own.confusion is None:
        yield from missing(f"{len(names):,} classes are too many for a matrix; report.json has the counts by class")
        return
    change = [
        [after - before for before, after in zip(*lines, strict=True)]
        for lines in zip(floats.confusion, own.confusion, strict=True)
    ]
    if len(names) > MOST_IN_A_MATRIX:
        yield _commonest(names, floats.confusion, own.confusion, label)
        return
    yield Matrix(caption="Float Keras", labels=names, cells=floats.confusion)
    yield Matrix(caption=label, labels=names, cells=own.confusion)
    if any(map(any, change)):
        yield Matrix(caption=f"Difference: {label} minus float Keras", labels=names, cells=change, signed=True)
    else:
        yield Lines(items=["The two matrices are equal."])
    yield Lines(items=["Down: the right class; across: the answer. Numbers are test examples."])


def per_class(report: Report) -> Iterator[Block]:
    """Yield precision, recall and F1 of each class, the class with the largest drop first."""
    chosen = chosen_row(report)
    own, floats = None if chosen is None else chosen.classes, report.float_classes
    if own is None or floats is None or chosen is None:
        yield from missing(NO_CLASSES)
        return
    names = class_names(report, len(floats.examples))
    drops = sorted(range(len(names)), key=lambda index: _drop(floats, own, index), reverse=True)
    worst = drops[0]
    label = row_label(chosen.artifact, chosen.runtime, chosen.target)
    drop = _drop(floats, own, worst)
    if drop > 0:
        yield Lines(items=[
            f"Largest drop: {names[worst]}, from {floats.right[worst]:,} to {own.right[worst]:,} of "
            f"{floats.examples[worst]:,} right ({-drop * 100:+.1f} points of recall)"
        ])
    else:
        yield Lines(items=["No class is right less often than with float Keras."])
    columns = (
        "class", "examples", "precision float", "precision", "recall float", "recall", "F1 float", "F1",
        "recall, points",
    )
    rows = [
        [names[index], f"{floats.examples[index]:,}", *_both(floats, own, index), _points(floats, own, index)]
        for index in drops
    ]
    caption = f"Float Keras and {label}, the largest drop of recall first"
    marked = frozenset({0} if drop > 0 else ())
    yield Table(caption=caption, columns=columns, rows=rows[:MOST_LINES], marked=marked)
    if rows[MOST_LINES:]:
        yield Table(caption="The other classes", columns=columns, rows=rows[MOST_LINES:], folded=True)


def class_names(report: Report, count: int) -> list[str]:
    """Return the classes' names, or their numbers where they have none."""
    return list(report.labels) if len(report.labels) == count else [str(index) for index in range(count)]


def precision(counts: ClassCounts, index: int) -> float | None:
    """Return the share of a class's answers that are right; None without such answers."""
    return counts.right[index] / counts.answered[index] if counts.answered[index] else None


def recall(counts: ClassCounts, index: int) -> float | None:
    """Return the share of a class's examples that are right; None without such examples."""
    return counts.right[index] / counts.examples[index] if counts.examples[index] else None


def f1(counts: ClassCounts, index: int) -> float | None:
    """Return the harmonic mean of precision and recall: 2 right / (examples + answers)."""
    whole = counts.examples[index] + counts.answered[index]
    return 2 * counts.right[index] / whole if whole else None


def _both(floats: ClassCounts, own: ClassCounts, index: int) -> Iterator[str]:
    for figure, without in ((precision, NO_ANSWERS), (recall, NO_EXAMPLES), (f1, NO_EXAMPLES)):
        for counts in (floats, own):
            value = figure(counts, index)
            yield without if value is None else share_percent(value, 1)


def _drop(floats: ClassCounts, own: ClassCounts, index: int) -> float:
    before, after = recall(floats, index), recall(own, index)
    return -1.0 if before is None or after is None else before - after


def _points(floats: ClassCounts, own: ClassCounts, index: int) -> str:
    before, after = recall(floats, index), recall(own, index)
    return NO_EXAMPLES if before is None or after is None else f"{(after - before) * 100:+.1f}"


def _commonest(
    names: Sequence[str], floats: Sequence[Sequence[int]], own: Sequence[Sequence[int]], label: str
) -> Table:
    pairs = sorted(
        ((own[right][answer], floats[right][answer], right, answer)
         for right in range(len(names)) for answer in range(len(names)) if right != answer),
        key=lambda pair: (-max(pair[:2]), pair[2:]),
    )
    return Table(
        caption=f"The commonest confusions, in test examples: float Keras and {label}",
        columns=("right class", "answer", "float Keras", label, "difference"),
        rows=[
            [names[right], names[answer], f"{before:,}", f"{after:,}", f"{after - before:+,}"]
            for after, before, right, answer in pairs[:MOST_CONFUSIONS] if after or before
        ],
    )
