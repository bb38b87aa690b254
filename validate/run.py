"""Bundle in, report out: the four questions composed."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import ArtifactError, BundleError, ParityFailure, RuntimeFailure, TargetFailure
from edgeship.core.measurement import REPORT_SCHEMA, Accuracy, Agreement, Grid, Parity, Report, Row
from edgeship.core.progress import say
from edgeship.core.schemes import SCHEMES
from edgeship.core.version import __version__
from edgeship.data import Images, split_sha256
from edgeship.graph import read_graph
from edgeship.validate.answers import Answers, collect_answers, float_top1
from edgeship.validate.process.machine import describe_machine
from edgeship.validate.process.visits import Visit, visit_target
from edgeship.validate.questions.accuracy import measure_accuracy, tied_share
from edgeship.validate.questions.gate import judge, wrong_answers
from edgeship.validate.questions.grid import measure_grids
from edgeship.validate.questions.layer_errors import measure_layer_errors
from edgeship.validate.questions.parity import MOST_PRODUCTS, measure_agreement, measure_parity
from edgeship.validate.report.advice import advice
from edgeship.validate.report.notes import (
    artifacts_not_run,
    crowded,
    few_launches,
    limited_images,
    made_for_others,
    missing_baselines,
    pinning,
)
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.rows import CPU, KERAS, Candidate, Measured, candidates, grid_of
from edgeship.validate.timing.latency import Timed
from edgeship.validate.timing.times import measure_times


def validate_bundle(bundle: Bundle, test: Images, config: ValidateConfig, *, layers: bool = False) -> Report:
    """Run every artifact of `bundle` on every runtime of `config` and judge the figures.

    Args:
        bundle: what `load_bundle` returned.
        test: the whole test split, as `load_test_split(config.data)` loads it; `config.images` takes the
            first of them.
        layers: compare every integer artifact with float layer by layer, not only those whose answers fail.

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
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeship-validate-")))
        visits = [visit_target(name, config, stack) for name in dict.fromkeys(config.targets)]
        rows = candidates(bundle, config, [visit.target for visit in visits])
        absent = {visit.target.name: visit.error for visit in visits if visit.error is not None}
        present = [row for row in rows if row.target.name not in absent]
        answers = collect_answers(
            present, bundle, test, timeout_seconds=config.timeout_seconds, folder=folder
        )
        say("comparing the two formats tensor by tensor and layer by layer")
        grids = measure_grids(bundle, timeout_seconds=config.timeout_seconds, folder=folder)
        # Last and alone: nothing else of ours runs while latency is measured.
        timed: dict[str, Timed] = {}
        for visit in visits:
            fit = [row for row in present if row.target is visit.target and row.label in answers.measured]
            timed |= measure_times(fit, bundle.golden.inputs[:1], config, folder=folder)
            visit.look_again()
    errors = {
        **{row.label: absent[row.target.name] for row in rows if row.target.name in absent},
        **{label: time.error for label, time in timed.items() if time.error is not None},
        **answers.errors,
    }
    report = _report(bundle, test, config, machine, rows, answers, grids, timed, errors, visits)
    integer = {artifact.name for artifact in bundle.manifest.artifacts if SCHEMES[artifact.scheme].integer}
    wrong = wrong_answers(report.rows, grids, report.agreements, config) | {
        row.name for row in rows if row.target.name == CPU and isinstance(errors.get(row.label), ParityFailure)
    }
    tables = measure_layer_errors(
        bundle, integer if layers else integer & wrong, timeout_seconds=config.timeout_seconds
    )
    return dataclasses.replace(report, layer_errors=tables)


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
    errors: Mapping[str, RuntimeFailure],
    visits: Sequence[Visit],
) -> Report:
    reference_top1, notes = float_top1(answers, bundle, len(test))
    finished = tuple(
        _row(candidate, bundle, config, answers, timed.get(candidate.label, Timed()),
             _accuracy(answers.measured.get(candidate.label), test.labels, reference_top1),
             errors.get(candidate.label))
        for candidate in rows if candidate.reported
    )
    agreements = tuple(_agreements(answers, test.labels, bundle.golden.float_outputs))
    architectures = {
        visit.target.name: (visit.machine or {}).get("architecture") for visit in visits
    } | {CPU: machine["architecture"]}
    verdict, failures = judge(finished, grids, agreements, config, architectures=architectures)
    return Report(
        schema=REPORT_SCHEMA,
        created_by=f"edgeship {__version__}",
        bundle=str(bundle.folder),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        rows=finished,
        grids=grids,
        agreements=agreements,
        verdict=verdict,
        failures=failures,
        notes=(
            *notes, *limited_images(bundle, len(test)), *made_for_others(finished, architectures), *answers.notes,
            *artifacts_not_run(bundle, rows, visits), *missing_baselines(rows, errors), *pinning(config, finished),
            *few_launches(config, finished), *crowded(finished),
            *dict.fromkeys(time.note for time in timed.values() if time.note is not None),
            *advice(finished),
        ),
        targets=tuple(visit.record() for visit in visits),
        quantization=bundle.manifest.quantization,
    )


def _row(
    candidate: Candidate,
    bundle: Bundle,
    config: ValidateConfig,
    answers: Answers,
    timed: Timed,
    accuracy: Accuracy | None,
    error: RuntimeFailure | None,
) -> Row:
    measured = answers.measured.get(candidate.label)
    return Row(
        artifact=candidate.name,
        scheme=candidate.scheme,
        runtime=candidate.runtime,
        target=candidate.target.name,
        kind=candidate.target.kind,
        threads=config.threads,
        size_bytes=candidate.size_bytes,
        accuracy=accuracy,
        parity=None if measured is None or measured.golden_outputs is None else _parity(measured, bundle, answers),
        coverage=None if measured is None else measured.coverage,
        latency=timed.latency,
        peak_memory_bytes=timed.peak_memory_bytes,
        profile=timed.profile,
        instructions=timed.instructions,
        error=None if error is None else str(error),
        refused=isinstance(error, TargetFailure),
    )


def _accuracy(
    measured: Measured | None, labels: np.ndarray, reference_top1: np.ndarray
) -> Accuracy | None:
    if measured is None or measured.top1 is None:
        return None
    is_reference = measured.candidate.runtime == KERAS
    accuracy = measure_accuracy(measured.top1, labels, float_top1=None if is_reference else reference_top1)
    return dataclasses.replace(accuracy, tied_share=tied_share(measured.outputs))


def _parity(measured: Measured, bundle: Bundle, answers: Answers) -> Parity:
    return measure_parity(
        measured, bundle.golden.float_outputs, sibling=_sibling(measured, answers),
        products=_products(bundle, measured.candidate),
    )


def _products(bundle: Bundle, candidate: Candidate) -> int:
    """Of the scheme's TFLite file, which needs no package to be read, or of the artifact itself."""
    files = [item for item in bundle.manifest.artifacts if item.scheme == candidate.scheme]
    for artifact in sorted(files, key=lambda item: item.format != "tflite"):
        try:
            return len(read_graph(bundle.path_of(artifact)).weighted_operations())
        except (ArtifactError, ImportError):
            continue
    return MOST_PRODUCTS


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


def _agreements(answers: Answers, labels: np.ndarray, float_outputs: np.ndarray) -> Iterator[Agreement]:
    """Pairs of this machine's rows on one integer grid, and every other target's row with this machine's.

    Here: what users run of any two files, and one file on any two runtimes; and what computes in float, in two
    formats.
    """
    tested = {label: row for label, row in answers.measured.items() if row.top1 is not None}
    here = [row for row in tested.values() if row.candidate.target.name == CPU]
    for first, second in combinations(here, 2):
        grid = grid_of(first.candidate)
        one_file = first.candidate.name == second.candidate.name
        both_run_by_users = first.candidate.kind.production and second.candidate.kind.production
        two_formats = both_run_by_users and _format(first) != _format(second)
        one_scheme = first.candidate.scheme == second.candidate.scheme and not first.candidate.is_integer
        if grid is not None and grid == grid_of(second.candidate) and (one_file or both_run_by_users):
            yield measure_agreement(first, second, labels, float_outputs=float_outputs if two_formats else None)
        elif two_formats and one_scheme:
            yield measure_agreement(first, second, labels, float_outputs=float_outputs)
    for row in tested.values():
        baseline = tested.get(row.candidate.baseline_label or "")
        if baseline is not None:
            yield measure_agreement(baseline, row, labels)
