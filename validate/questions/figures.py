"""The figures of the report's rows: a row starts as a file on a runtime, and grows by what was measured of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ArtifactError, RuntimeFailure, TargetFailure
from edgeship.core.evidence import ClassCounts
from edgeship.core.measurement import Accuracy, Agreement, Parity, Row, Score
from edgeship.core.metrics import METRICS
from edgeship.data.examples import Examples
from edgeship.graph import read_graph
from edgeship.graph.content import UNKNOWN, Content, content_of
from edgeship.validate.questions.accuracy import measure_accuracy
from edgeship.validate.questions.classes import count_classes
from edgeship.validate.questions.parity import measure_agreement, measure_parity
from edgeship.validate.questions.scores import Scoring, measure_score
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.rows import CPU, KERAS, Answers, Candidate, FloatAnswers, Measured, grid_of
from edgeship.validate.timing.latency import Timed


def new_row(candidate: Candidate, config: ValidateConfig) -> Row:
    """Return the row of a candidate before anything is measured."""
    return Row(
        artifact=candidate.name, scheme=candidate.scheme, runtime=candidate.runtime, target=candidate.target.name,
        kind=candidate.target.kind, threads=config.threads, size_bytes=candidate.size_bytes,
    )


def with_answers(
    row: Row, measured: Measured | None, *, bundle: Bundle, answers: Answers, examples: Examples, scoring: Scoring,
    floats: FloatAnswers,
) -> Row:
    """Return the row with what its answers say; `measured` are its own among all `answers`, None where it has none."""
    if measured is None:
        return row
    return replace(
        row,
        accuracy=_accuracy(measured, scoring, floats),
        score=_score(measured, scoring, floats),
        parity=None if measured.golden_outputs is None else _parity(measured, bundle, answers, floats),
        coverage=measured.coverage,
        **_evidence(measured, bundle=bundle, examples=examples, scoring=scoring, floats=floats),
    )


def with_times(row: Row, timed: Timed | None) -> Row:
    """Return the row with its times, memory and instructions."""
    if timed is None:
        return row
    return replace(
        row, latency=timed.latency, peak_memory_bytes=timed.peak_memory_bytes, profile=timed.profile,
        instructions=timed.instructions, sustained=timed.sustained,
    )


def with_error(row: Row, error: RuntimeFailure | None) -> Row:
    """Return the row with the reason why figures are missing, and whether the target is to blame for it."""
    return row if error is None else replace(row, error=str(error), refused=isinstance(error, TargetFailure))


def _accuracy(measured: Measured, scoring: Scoring, floats: FloatAnswers) -> Accuracy | None:
    labels = labels_of(scoring)
    if measured.decisions is None or labels is None:
        return None
    is_reference = measured.candidate.runtime == KERAS
    return measure_accuracy(
        measured.decisions, labels, float_top1=None if is_reference else floats.decisions,
        codes=None if measured.outputs is None else measured.outputs[0],
    )


def _score(measured: Measured, scoring: Scoring, floats: FloatAnswers) -> Score | None:
    if scoring.metric is None or measured.scored is None or labels_of(scoring) is not None:
        return None
    is_reference = measured.candidate.runtime == KERAS
    return measure_score(scoring.metric, measured.scored, float_rows=None if is_reference else floats.scored)


def _evidence(
    measured: Measured, *, bundle: Bundle, examples: Examples, scoring: Scoring, floats: FloatAnswers
) -> dict[str, Any]:
    """Return the row's fields of what stands behind its figures: classes, changed answers, deviations."""
    changes = measured.changes
    return {
        "classes": class_counts(measured.decisions, scoring, bundle),
        "changed": None if changes is None else changes.answers(examples),
        "deviations": None if changes is None else changes.deviations(
            examples, scored=measured.scored, float_scored=floats.scored
        ),
    }


def class_counts(decisions: np.ndarray | None, scoring: Scoring, bundle: Bundle) -> ClassCounts | None:
    """Return the counts by class of answers to all test examples; None where they are no classes, or none is right."""
    labels = labels_of(scoring)
    if decisions is None or labels is None or decisions.shape != labels.shape:
        return None
    return count_classes(decisions, labels, classes=bundle.golden.float_outputs[0].shape[-1])


def labels_of(scoring: Scoring) -> np.ndarray | None:
    """Return the right classes of the test examples; None where the answers are no classes, or nothing is known."""
    is_top1 = scoring.metric is METRICS["top1"] and scoring.targets is not None and scoring.targets.ndim == 1
    # Whole numbers by now, which scoring has checked; they may have come as floats.
    return scoring.targets.astype(np.int64) if is_top1 and scoring.targets is not None else None


def _parity(measured: Measured, bundle: Bundle, answers: Answers, floats: FloatAnswers) -> Parity:
    is_reference = measured.candidate.runtime == KERAS
    return measure_parity(
        measured, bundle.golden.float_outputs, sibling=_sibling(measured, answers),
        content=_content(bundle, measured.candidate), float_decisions=None if is_reference else floats.decisions,
    )


def _content(bundle: Bundle, candidate: Candidate) -> Content:
    """Return what the scheme's TFLite file holds, which needs no package to be read, or the artifact itself."""
    files = [item for item in bundle.manifest.artifacts if item.scheme == candidate.scheme]
    for artifact in sorted(files, key=lambda item: item.format != "tflite"):
        try:
            return _content_of_file(bundle.path_of(artifact), artifact.sha256)
        except (ArtifactError, ImportError):
            continue
    return UNKNOWN


@functools.lru_cache(maxsize=32)  # all rows of a scheme and all their pairs ask
def _content_of_file(path: Path, sha256: str) -> Content:
    return content_of(read_graph(path))


def _sibling(measured: Measured, answers: Answers) -> Measured | None:
    """What a row's outputs are compared with.

    On another target the same artifact on this machine; here the production row of the other format on the same
    grid.
    """
    if measured.candidate.baseline_label is not None:
        return answers.measured.get(measured.candidate.baseline_label)
    grid = grid_of(measured.candidate)
    if grid is None:
        return None
    others = (
        other for other in answers.measured.values()
        if grid_of(other.candidate) == grid and other.candidate.kind.production
        and other.candidate.target.name == CPU and _format(other) != _format(measured)
        # Of several variants each compares with the TFLite file, not with one another.
        and grid in (other.candidate.name, measured.candidate.name)
    )
    return next(others, None)


def _format(measured: Measured) -> str | None:
    """ "tflite" or "onnx", whose form for small builds .ort is."""
    artifact = measured.candidate.artifact
    return None if artifact is None else artifact.format.replace("ort", "onnx")


def agreements_of(
    answers: Answers, scoring: Scoring, bundle: Bundle, floats: FloatAnswers
) -> Iterator[Agreement]:
    """Yield the pairs of this machine's rows on one integer grid, and every other target's row with this machine's.

    Here: what users run of any two files, and one file on any two runtimes; and what computes in float, in two
    formats.
    """
    labels, float_outputs = labels_of(scoring), bundle.golden.float_outputs
    tested = {label: row for label, row in answers.measured.items() if row.examples}
    here = [row for row in tested.values() if row.candidate.target.name == CPU]
    for first, second in combinations(here, 2):
        grid = grid_of(first.candidate)
        one_file = first.candidate.name == second.candidate.name
        both_run_by_users = first.candidate.kind.production and second.candidate.kind.production
        two_formats = both_run_by_users and _format(first) != _format(second)
        one_scheme = first.candidate.scheme == second.candidate.scheme and not first.candidate.is_integer
        if grid is not None and grid == grid_of(second.candidate) and (one_file or both_run_by_users):
            yield measure_agreement(
                first, second, labels, float_outputs=float_outputs if two_formats else None,
                float_decisions=floats.decisions if two_formats else None, content=_content(bundle, first.candidate),
            )
        elif two_formats and one_scheme:
            yield measure_agreement(
                first, second, labels, float_outputs=float_outputs, content=_content(bundle, first.candidate)
            )
    for row in tested.values():
        baseline = tested.get(row.candidate.baseline_label or "")
        if baseline is not None:
            yield measure_agreement(baseline, row, labels)
