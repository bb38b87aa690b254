"""What changed, and by how much? The examples whose class changed, or the outputs that moved, against float Keras.

All is counted while the test examples go by portion by portion, since the outputs of all of them would not fit in
memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeship.core.evidence import (
    MOST_EXAMPLES,
    MOST_PAIRS,
    MOST_VALUES,
    ChangedAnswers,
    ChangedExample,
    Deviations,
    Histogram,
    OutputPair,
)
from edgeship.data.examples import Batch, Examples

BARS = 30  # of a histogram
MOST_ELEMENTS = 1 << 22  # that are held as float64 at a time: 32 MB


class Changes:
    """What changed of one row's answers, as far as they have been seen."""

    def __init__(self) -> None:
        self.compared = self.changed = 0
        self.examples: list[ChangedExample] = []
        self.distances: list[np.ndarray] = []
        self.pairs: list[OutputPair] = []

    def see(self, values: Batch, reference: Batch, *, start: int) -> None:
        """Compare outputs that are no classes with float Keras's, both real numbers of one shape, from `start` on."""
        count = len(values[0])
        distances = np.sqrt(sum(_squares(one, other) for one, other in zip(values, reference, strict=True)))
        self.distances.append(distances)
        furthest = np.argsort(-distances, kind="stable")[:MOST_PAIRS]
        self.pairs += [
            OutputPair(
                index=start + int(place), sha256="", distance=float(distances[place]),
                float_values=_first(reference[0][place]), values=_first(values[0][place]),
            )
            for place in furthest
        ]
        self.pairs = sorted(self.pairs, key=lambda pair: -pair.distance)[:MOST_PAIRS]
        self.compared += count

    def see_classes(
        self, outputs: np.ndarray, reference: np.ndarray | None, *, answers: np.ndarray, float_answers: np.ndarray,
        targets: np.ndarray | None, start: int,
    ) -> None:
        """Compare classes with float Keras's.

        Args:
            outputs, reference: (n, classes), the file's and float Keras's; the latter None where that did not run.
            answers, float_answers, targets: int64 (n,).
            start: the place of the first of them among the test examples.
        """
        self.compared += len(answers)
        different = np.flatnonzero(answers != float_answers)
        self.changed += len(different)
        for place in different:
            answer, before = int(answers[place]), int(float_answers[place])
            floats = None if reference is None else reference[place]
            self.examples.append(ChangedExample(
                index=start + int(place), sha256="", target=None if targets is None else int(targets[place]),
                float_answer=before, answer=answer,
                float_output=None if floats is None else float(floats[before]),
                float_output_of_answer=None if floats is None else float(floats[answer]),
                output=float(outputs[place, answer]), output_of_float_answer=float(outputs[place, before]),
            ))
        self.examples = sorted(self.examples, key=lambda item: -item.margin_change)[:MOST_EXAMPLES]

    def answers(self, examples: Examples) -> ChangedAnswers | None:
        """Return the changed classes; None where none were compared."""
        if not self.compared or self.distances:
            return None
        found = tuple(replace(item, sha256=example_sha256(examples, item.index)) for item in self.examples)
        return ChangedAnswers(compared=self.compared, changed=self.changed, examples=found)

    def deviations(
        self, examples: Examples, *, scored: np.ndarray | None, float_scored: np.ndarray | None
    ) -> Deviations | None:
        """Return how far values moved; None where nothing was compared.

        Args:
            scored, float_scored: the metric's rows of all examples; used where they are one number per example.
        """
        if not self.distances:
            return None
        pairs = tuple(replace(pair, sha256=example_sha256(examples, pair.index)) for pair in self.pairs)
        scores, float_scores = _histograms(scored, float_scored)
        (distances,) = _on_one_scale([np.concatenate(self.distances)])
        return Deviations(
            compared=self.compared, distances=distances, furthest=pairs, scores=scores, float_scores=float_scores
        )


class Reference:
    """What float Keras answers to the examples of the portion at hand; of a classifier also what it did at the export.

    Args:
        targets: what is right, for all test examples; None: not known.
        exported: int64 (examples,), the classes at the export, for use where float Keras does not run.
    """

    def __init__(self, *, targets: np.ndarray | None, exported: np.ndarray | None) -> None:
        self.targets, self.exported = targets, exported
        self.start: int | None = None  # of the portion that `values` are of
        self.values: Batch = ()
        self.decisions: np.ndarray | None = None

    def take(self, values: Batch, decisions: np.ndarray | None, *, start: int) -> None:
        """Keep float Keras's answers to a portion, until those to the next one come."""
        self.start, self.values, self.decisions = start, values, decisions

    def compare(self, changes: Changes, values: Batch, decisions: np.ndarray | None, *, start: int) -> None:
        """Compare a row's answers to the portion from `start` on, if there is anything to compare them with."""
        is_known, count = self.start == start, len(values[0])
        if decisions is None or decisions.ndim > 1:
            if is_known:
                changes.see(values, self.values, start=start)
            return
        exported = None if self.exported is None else self.exported[start : start + count]
        float_answers = self.decisions if is_known else exported
        if float_answers is None:
            return
        targets = None if self.targets is None or self.targets.ndim > 1 else self.targets[start : start + count]
        changes.see_classes(
            values[0], self.values[0] if is_known else None, answers=decisions, float_answers=float_answers,
            targets=targets, start=start,
        )


def example_sha256(examples: Examples, index: int) -> str:
    """Return the hexadecimal SHA-256 of one example's inputs, with their types and shapes."""
    digest = hashlib.sha256()
    for array in examples.read(np.array([index])):
        digest.update(f"{array.dtype} {array.shape[1:]}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return each example's mean square difference; a few examples at a time, since maps are large in float64."""
    step = max(1, MOST_ELEMENTS // max(1, one[0].size))
    parts = []
    for start in range(0, len(one), step):
        first, second = (side[start : start + step].astype(np.float64) for side in (one, other))
        parts.append(np.mean(((first - second) ** 2).reshape(len(first), -1), axis=1))
    return np.concatenate(parts)


def _first(values: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, values.reshape(-1)[:MOST_VALUES]))


def _histograms(*rows: np.ndarray | None) -> tuple[Histogram | None, Histogram | None]:
    """Return the histograms of a metric's rows with the same edges; None for both where they are no plain numbers."""
    first, second = rows
    if first is None or second is None or first.ndim != 1 or first.dtype == bool:
        return None, None
    found = tuple(_on_one_scale([first, second]))
    return found[0], found[1]


def _on_one_scale(sides: list[np.ndarray]) -> Iterator[Histogram]:
    edges = np.histogram_bin_edges(np.concatenate(sides), BARS)
    for side in sides:
        yield Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, np.histogram(side, edges)[0])))
