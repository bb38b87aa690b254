"""Bundle in, report out: the four questions composed."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import ValidateConfig
from edgeship.core.errors import BundleError, DataError, ParityFailure, RuntimeFailure
from edgeship.core.measurement import REPORT_SCHEMA, Grid, Report, Row
from edgeship.core.metrics import METRICS, Metric
from edgeship.core.progress import doing, fact, up_to
from edgeship.core.schemes import SCHEMES
from edgeship.core.version import __version__
from edgeship.data import Images, split_sha256
from edgeship.data.examples import Examples, examples_of_images
from edgeship.validate.answers import collect_answers, float_answers
from edgeship.validate.process.machine import describe_machine
from edgeship.validate.process.visits import Visit, visit_target
from edgeship.validate.questions.chance import guessing
from edgeship.validate.questions.figures import (
    agreements_of,
    class_counts,
    new_row,
    with_answers,
    with_error,
    with_times,
)
from edgeship.validate.questions.gate import judge, wrong_answers
from edgeship.validate.questions.grid import measure_grids
from edgeship.validate.questions.layer_errors import measure_layer_errors
from edgeship.validate.questions.network_cost import network_costs
from edgeship.validate.questions.same_bits import exact_on_every_x86
from edgeship.validate.questions.scores import Scoring, scoring_of
from edgeship.validate.questions.ship import Measurements, what_to_ship
from edgeship.validate.report.advice import advice
from edgeship.validate.report.notes import (
    artifacts_not_run,
    crowded,
    few_launches,
    limited_images,
    missing_baselines,
    not_sustained,
    parts_missing,
    pinning,
)
from edgeship.validate.report.notes import made_for_others as notes_on_others
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.processors import made_for_others, processors_of
from edgeship.validate.subject.rows import CPU, Answers, Candidate, FloatAnswers, candidates
from edgeship.validate.timing.latency import Timed
from edgeship.validate.timing.times import measure_times

# Where the bar of the stage stands when the answers are there, and when the formats have been compared: of the
# quickstart's time the answers take a half and the latencies the most of the rest.
ANSWERED, COMPARED = 0.5, 0.6


def validate_bundle(bundle: Bundle, test: Images, config: ValidateConfig, *, layers: bool = False) -> Report:
    """Run every artifact of an image classifier's bundle on every runtime of `config` and judge the figures.

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
    assert bundle.manifest.preprocessing is not None  # check_test_split saw to it
    examples = examples_of_images(test, bundle.manifest.preprocessing)
    return validate_examples(bundle, examples, config, metric=METRICS["top1"], layers=layers)


def validate_examples(
    bundle: Bundle, examples: Examples, config: ValidateConfig, *, metric: Metric | None, layers: bool = False
) -> Report:
    """Run every artifact of `bundle` on `examples` and judge the figures.

    Args:
        bundle: what `load_bundle` returned.
        examples: inputs as the model takes them; without targets no accuracy is judged, and the report says so.
        metric: how answers are scored, and which of them two models can share.
        layers: compare every integer artifact with float layer by layer, not only those whose answers fail.

    Raises:
        DataError: inputs that do not fit the model, or answers that the metric cannot score.
        StorageError: no room for the inputs in the temporary folder.
    """
    check_inputs(bundle, examples)
    if config.images is not None:
        examples = examples.first(config.images)
    rank = bundle.golden.float_outputs[0].ndim
    scoring = scoring_of(metric, examples.targets, rank=rank)
    machine = describe_machine()  # first: it has the load before we made any
    found = _measure(bundle, examples, scoring, config)
    report = _report(bundle, examples, scoring, config, machine, found)
    integer = {artifact.name for artifact in bundle.manifest.artifacts if SCHEMES[artifact.scheme].integer}
    wrong = wrong_answers(report.rows, report.grids, report.agreements, config, found.others) | {
        row.name for row in found.candidates
        if row.target.name == CPU and isinstance(found.errors.get(row.label), ParityFailure)
        and row.label not in found.others
    }
    tables = measure_layer_errors(
        bundle, integer if layers else integer & wrong, timeout_seconds=config.timeout_seconds
    )
    fact(f"{len(report.rows)} rows of {len(examples):,} test examples each, verdict {report.verdict}")
    return dataclasses.replace(report, layer_errors=tables)


def check_test_split(bundle: Bundle, test: Images) -> None:
    """Refuse other images than those the bundle was exported with. Raises BundleError."""
    record, where = bundle.manifest.splits.get("test"), bundle.folder
    if record is None or bundle.manifest.preprocessing is None:
        raise BundleError(
            f"{where}: this bundle was not made from a configuration, so no [data] section tells its test images; "
            "validate it from Python: edgeship.load_bundle(FOLDER).validate(inputs, targets)"
        )
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


def check_inputs(bundle: Bundle, examples: Examples) -> None:
    """Refuse arrays that are no inputs of the bundle's model. Raises DataError."""
    golden = bundle.golden.inputs
    names = [spec.name for spec in bundle.manifest.artifacts[0].inputs]
    given = examples.read(np.arange(min(1, len(examples))))
    expected = [(array.shape[1:], array.dtype) for array in golden]
    found = [(array.shape[1:], array.dtype) for array in given]
    if len(examples) and expected == found:
        return
    wanted = ", ".join(
        f"{name} {dtype.name} (n, {', '.join(map(str, shape))})"
        for name, (shape, dtype) in zip(names, expected, strict=True)
    )
    have = ", ".join(f"{dtype.name} (n, {', '.join(map(str, shape))})" for shape, dtype in found)
    raise DataError(
        f"inputs: expected at least one example of {wanted}, found {len(examples):,} of {have}; give what the float "
        "model takes, in the order of its inputs"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What was measured of all candidates; nothing is judged yet. The times are by label."""

    candidates: Sequence[Candidate]
    visits: Sequence[Visit]
    answers: Answers
    grids: tuple[Grid, ...]
    timed: Mapping[str, Timed]
    processors: Mapping[str, str | None]  # the class of each target's, by its name
    others: Mapping[str, str]  # label -> the processors that its file is made for, where its target has another one

    @cached_property
    def errors(self) -> dict[str, RuntimeFailure]:
        """Why rows have no figures, by label: their target is not there, or they failed in one of the two runs."""
        absent = _absent(self.visits)
        return {
            **{row.label: absent[row.target.name] for row in self.candidates if row.target.name in absent},
            **{label: time.error for label, time in self.timed.items() if time.error is not None},
            **self.answers.errors,
        }


def _measure(bundle: Bundle, examples: Examples, scoring: Scoring, config: ValidateConfig) -> _Found:
    """Run all candidates. Raises DataError and StorageError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeship-validate-")))
        visits = [visit_target(name, config, stack) for name in dict.fromkeys(config.targets)]
        rows = candidates(bundle, config, [visit.target for visit in visits])
        absent = _absent(visits)
        present = [row for row in rows if row.target.name not in absent and row.part_missing is None]
        with up_to(ANSWERED):
            answers = collect_answers(
                present, bundle, examples, scoring, timeout_seconds=config.timeout_seconds, folder=folder
            )
        doing("comparing the two formats tensor by tensor and layer by layer")
        with up_to(COMPARED):
            grids = measure_grids(bundle, timeout_seconds=config.timeout_seconds, folder=folder)
        # Last and alone: nothing else of ours runs while latency is measured.
        timed: dict[str, Timed] = {}
        for number, visit in enumerate(visits, start=1):
            fit = [row for row in present if row.target is visit.target and row.label in answers.measured]
            with up_to(COMPARED + (1 - COMPARED) * number / len(visits)):
                timed |= measure_times(fit, bundle.golden.inputs, config, folder=folder)
            visit.look_again()
    processors = processors_of({visit.target.name: visit.machine for visit in visits})
    return _Found(
        candidates=rows, visits=visits, answers=answers, grids=grids, timed=timed, processors=processors,
        others=made_for_others(bundle.manifest, rows, processors),
    )


def _absent(visits: Sequence[Visit]) -> dict[str, RuntimeFailure]:
    return {visit.target.name: visit.error for visit in visits if visit.error is not None}


def _report(
    bundle: Bundle, examples: Examples, scoring: Scoring, config: ValidateConfig, machine: dict[str, Any],
    found: _Found,
) -> Report:
    """Return the judged report, without the layer-by-layer tables."""
    answers = found.answers
    floats = float_answers(answers, bundle, scoring, len(examples))
    rows = tuple(_rows(bundle, examples, config, found, scoring=scoring, floats=floats))
    agreements = tuple(agreements_of(answers, scoring, bundle.golden.float_outputs, floats))
    exact = exact_on_every_x86(bundle.manifest.artifacts)
    float_classes = class_counts(floats.decisions, scoring, bundle)
    guess = guessing(float_classes)
    ship = what_to_ship(Measurements(
        manifest=bundle.manifest, rows=rows, config=config, processors=found.processors, scored=scoring.scores,
        versions={CPU: machine["versions"], **{
            visit.target.name: visit.machine.get("versions") or {} for visit in found.visits if visit.machine
        }},
        wrong=wrong_answers(rows, found.grids, agreements, config, found.others),
        float_guesses=guess is not None,
    ))
    verdict, failures = judge(
        rows, found.grids, agreements, config, others=found.others, ship=ship, scored=scoring.scores,
        exact=exact, guess=guess,
    )
    return Report(
        schema=REPORT_SCHEMA,
        created_by=f"edgeship {__version__}",
        bundle=str(bundle.folder),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        rows=rows,
        grids=found.grids,
        agreements=agreements,
        verdict=verdict,
        failures=failures,
        notes=(
            *floats.notes, *limited_images(bundle, len(examples)), *notes_on_others(rows, found.processors),
            *answers.notes,
            *parts_missing(found.candidates), *artifacts_not_run(bundle, found.candidates, found.visits),
            *missing_baselines(found.candidates, found.errors), *pinning(config, rows), *few_launches(config, rows),
            *crowded(rows), *not_sustained(config, found.candidates),
            *dict.fromkeys(time.note for time in found.timed.values() if time.note is not None),
            *advice(rows, exact=exact),
        ),
        targets=tuple(visit.record() for visit in found.visits),
        quantization=bundle.manifest.quantization,
        not_judged=tuple(not_judged(scoring)),
        labels=bundle.manifest.labels,
        float_classes=float_classes,
        networks=tuple(network_costs(bundle, timeout_seconds=config.timeout_seconds)),
        ship=ship,
    )


def not_judged(scoring: Scoring) -> Iterator[str]:
    """Yield what the verdict says nothing of, and why."""
    if scoring.targets is None:
        yield "accuracy: no targets were given"
    elif scoring.metric is None:
        yield "accuracy: no metric was named"


def _rows(
    bundle: Bundle, examples: Examples, config: ValidateConfig, found: _Found, *, scoring: Scoring,
    floats: FloatAnswers,
) -> Iterator[Row]:
    answers = found.answers
    for candidate in found.candidates:
        if candidate.reported:
            label = candidate.label
            row = with_answers(
                new_row(candidate, config), answers.measured.get(label), bundle=bundle, answers=answers,
                examples=examples, scoring=scoring, floats=floats,
            )
            timed = with_times(row, found.timed.get(label))
            yield dataclasses.replace(with_error(timed, found.errors.get(label)), for_others=found.others.get(label))
