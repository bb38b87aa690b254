"""Bundle in, report out: the four questions composed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import edgeship
from edgeship.config import ValidateConfig
from edgeship.data import Images, split_sha256
from edgeship.errors import BundleError
from edgeship.measurement import REPORT_SCHEMA, Accuracy, Agreement, Grid, Parity, Report, Row
from edgeship.progress import say
from validate.accuracy import measure_accuracy
from validate.answers import Answers, collect_answers, float_top1
from validate.bundle import Bundle
from validate.gate import judge
from validate.grid import measure_grids
from validate.latency import Timed, measure_latencies
from validate.machine import describe_machine
from validate.parity import measure_agreement, measure_parity
from validate.rows import KERAS, TARGET, Candidate, Measured, candidates, grid_of
from validate.runtimes.table import RUNTIMES


def validate_bundle(bundle: Bundle, test: Images, config: ValidateConfig) -> Report:
    """Run every artifact of `bundle` on every runtime of `config` and judge the figures.

    Args:
        bundle: what `load_bundle` returned.
        test: the whole test split, as `load_test_split(config.data)` loads it; `config.images` takes the
            first of them.

    A runtime that refuses, crashes or hangs becomes a row with `error`, which fails the verdict.

    Raises:
        BundleError: `test` is not the bundle's test split, or its labels are not the model's.
        DataError: an image that cannot be read.
        StorageError: no room for the inputs in the temporary folder.
    """
    check_test_split(bundle, test)
    if config.images is not None:
        test = test.select(np.arange(min(config.images, len(test))))
    machine = describe_machine()  # first: it has the load before we made any
    rows = candidates(bundle, config)
    with tempfile.TemporaryDirectory(prefix="edgeship-validate-") as name:
        folder = Path(name)
        answers = collect_answers(rows, bundle, test, timeout_seconds=config.timeout_seconds, folder=folder)
        say("comparing the two formats tensor by tensor and layer by layer")
        grids = measure_grids(bundle, timeout_seconds=config.timeout_seconds, folder=folder)
        # Last and alone: nothing else of ours runs while latency is measured.
        timed = measure_latencies(
            [row for row in rows if row.label in answers.measured], bundle.golden.inputs[:1], config,
            folder=folder,
        )
    return _report(bundle, test, config, machine, rows, answers, grids, timed)


def check_test_split(bundle: Bundle, test: Images) -> None:
    """Refuse other images than those the bundle was exported with. Raises BundleError."""
    record, where = bundle.manifest.splits["test"], bundle.folder
    if len(test) != record["images"]:
        raise BundleError(
            f"{where}: expected the test split of {record['images']:,} images that the bundle was exported "
            f"with, found {len(test):,}; validate with the same [data] section"
        )
    found = split_sha256(test)
    if found != record["sha256"]:
        raise BundleError(
            f"{where}: expected the test split with SHA-256 {record['sha256']}, found {found}: other images, "
            "labels or order than the bundle was exported with; validate with the same [data] section"
        )
    classes = len(bundle.manifest.labels)
    if test.labels.min() < 0 or test.labels.max() >= classes:
        raise BundleError(
            f"{where}: expected labels from 0 to {classes - 1} ({classes} classes), found "
            f"{test.labels.min()} to {test.labels.max()}; export the bundle again"
        )


def _report(
    bundle: Bundle,
    test: Images,
    config: ValidateConfig,
    machine: dict[str, Any],
    rows: Sequence[Candidate],
    answers: Answers,
    grids: tuple[Grid, ...],
    timed: Mapping[str, Timed],
) -> Report:
    reference_top1, notes = float_top1(answers, bundle, len(test))
    finished = tuple(
        _row(candidate, bundle, config, answers, timed.get(candidate.label, Timed()),
             _accuracy(answers.measured.get(candidate.label), test.labels, reference_top1))
        for candidate in rows
    )
    agreements = tuple(_agreements(answers, test.labels))
    verdict, failures = judge(finished, grids, agreements, config)
    return Report(
        schema=REPORT_SCHEMA,
        created_by=f"edgeship {edgeship.__version__}",
        bundle=str(bundle.folder),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        rows=finished,
        grids=grids,
        agreements=agreements,
        verdict=verdict,
        failures=failures,
        notes=(*notes, *_limited(bundle, test), *answers.notes, *_not_run(bundle, rows)),
    )


def _row(
    candidate: Candidate,
    bundle: Bundle,
    config: ValidateConfig,
    answers: Answers,
    timed: Timed,
    accuracy: Accuracy | None,
) -> Row:
    measured = answers.measured.get(candidate.label)
    return Row(
        artifact=candidate.name,
        scheme=candidate.scheme,
        runtime=candidate.runtime,
        target=TARGET,
        threads=config.threads,
        size_bytes=candidate.size_bytes,
        accuracy=accuracy,
        parity=None if measured is None else _parity(measured, bundle, answers),
        coverage=None if measured is None else measured.coverage,
        latency=timed.latency,
        peak_memory_bytes=timed.peak_memory_bytes,
        error=answers.errors.get(candidate.label, timed.error),
    )


def _accuracy(
    measured: Measured | None, labels: np.ndarray, reference_top1: np.ndarray
) -> Accuracy | None:
    if measured is None:
        return None
    is_reference = measured.candidate.runtime == KERAS
    return measure_accuracy(
        measured.top1, labels, float_top1=None if is_reference else reference_top1
    )


def _parity(measured: Measured, bundle: Bundle, answers: Answers) -> Parity:
    return measure_parity(
        measured, bundle.golden.float_outputs, sibling=_sibling(measured, answers)
    )


def _sibling(measured: Measured, answers: Answers) -> Measured | None:
    """What a row's integers are compared with: the production row of the other format on the same grid."""
    grid = grid_of(measured.candidate)
    if grid is None:
        return None
    others = (
        other for other in answers.measured.values()
        if grid_of(other.candidate) == grid and RUNTIMES[other.candidate.runtime].production
        and other.candidate.name != measured.candidate.name
        # Of several ONNX variants each compares with the TFLite file, not with one another.
        and grid in (other.candidate.name, measured.candidate.name)
    )
    return next(others, None)


def _agreements(answers: Answers, labels: np.ndarray) -> Iterator[Agreement]:
    """Every pair of rows on one integer grid."""
    for first, second in combinations(answers.measured.values(), 2):
        grid = grid_of(first.candidate)
        if grid is not None and grid == grid_of(second.candidate):
            yield measure_agreement(first, second, labels)


def _limited(bundle: Bundle, test: Images) -> Iterator[str]:
    whole = bundle.manifest.splits["test"]["images"]
    if len(test) < whole:
        yield f"validate.images: only the first {len(test):,} of {whole:,} test images were used"


def _not_run(bundle: Bundle, rows: Sequence[Candidate]) -> Iterator[str]:
    run = {row.name for row in rows}
    for artifact in bundle.manifest.artifacts:
        if artifact.name not in run:
            yield f"{artifact.name}: not run, since validate.runtimes has none for {artifact.format} files"
