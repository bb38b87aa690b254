"""Run every candidate on all test examples and on the golden inputs; everything else compares these outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.artifact import TensorSpec
from edgeship.core.cpu import processor_identity
from edgeship.core.errors import ParityFailure, RuntimeFailure
from edgeship.core.integers import dequantize, sqnr_db
from edgeship.core.measurement import Coverage
from edgeship.core.metrics import METRICS
from edgeship.core.progress import doing, say, track, up_to
from edgeship.data.examples import Batch, Examples
from edgeship.validate.process.machine import usable_cores
from edgeship.validate.process.pool import NotMeasured, Pool
from edgeship.validate.questions.changed import Changes, Reference
from edgeship.validate.questions.coverage import as_promised, coverage_of_answer
from edgeship.validate.questions.parity import golden_lsb, on_grid
from edgeship.validate.questions.scores import Scoring
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.table import GOLDEN
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.inputs import Portion, portions, write_arrays
from edgeship.validate.subject.rows import CPU, KERAS, Answers, Candidate, FloatAnswers, Measured, grid_specs_of

# Rounding alone moves the answer of well under 2 % of images (measured: 0.3 to 0.6 % between any two kernels on
# 34 layers), so that a quarter of a handful of golden images is no accident.
GOLDEN_AGREEMENT = 0.75
# Of answers that are values: noise of a tenth of the signal's power. Kernels of one file part by their last roundings,
# which leaves 30 dB and more where the file itself is of use.
GOLDEN_DB = 10.0


class _Collector:
    """What is known of one candidate while the portions go by."""

    def __init__(self, candidate: Candidate, bundle: Bundle, scoring: Scoring) -> None:
        self.candidate = candidate
        self.bundle = bundle
        self.scoring = scoring
        self.specs = _float_specs(bundle) if candidate.artifact is None else candidate.artifact.outputs
        self.grids = grid_specs_of(candidate, bundle)
        self.started = False
        self.examples = 0
        self.outputs: list[Batch] = []  # of integer artifacts: a float row would fill the memory
        self.decisions: list[np.ndarray] = []
        self.scored: list[np.ndarray] = []
        self.golden_outputs: Batch | None = None
        self.coverage: Coverage | None = None
        self.notes: list[str] = []
        self.changes = Changes()

    def start(self, pool: Pool, golden: tuple[Path, ...]) -> None:
        """Once per candidate: is it what the manifest says, what does it execute, its golden outputs."""
        artifact, label = self.candidate.artifact, self.candidate.label
        self.started = True
        if artifact is not None:
            _check_tensors(label, "input", artifact.inputs, pool.loaded["inputs"])
            _check_tensors(label, "output", artifact.outputs, pool.loaded["outputs"])
        try:
            (_, self.golden_outputs), = pool.run([golden])
        except NotMeasured as reason:
            self.notes.append(f"{label}: accuracy and parity not measured: {reason}")
        else:
            self._check(self.golden_outputs, len(self.bundle.golden.inputs[0]))
            self._compare_with_export(self.golden_outputs)
        if self.candidate.is_integer:  # also of an integer file with float inputs and outputs
            self._read_plan(pool.ask("plan"))

    def run(self, pool: Pool, portion: Portion, examples: Examples, floats: Reference) -> None:
        """All examples of a portion; `floats` is what float Keras answered to them."""
        if self.golden_outputs is None:  # its tool gives none
            return
        if self.candidate.golden_only:
            if portion.start == 0:
                self.notes.append(
                    f"{self.candidate.label}: run on the golden examples only, since a float inference takes "
                    "seconds under emulation"
                )
            return
        files = portion.files[self.candidate.input_kinds]
        parts: dict[int, Batch] = {}
        for index, answer in track(pool.run(files), label=self.candidate.label, total=len(files)):
            parts[index] = answer
        outputs = _joined([parts[index] for index in range(len(files))])
        self._check(outputs, portion.images)
        self.examples += portion.images
        if self.grids is not None:
            self.outputs.append(tuple(map(on_grid, outputs, self.specs, self.grids)))
        values = tuple(map(dequantize, outputs, self.specs))
        decisions = self.scoring.decisions(values)
        if self.candidate.runtime == KERAS:
            floats.take(values, decisions, start=portion.start)
        else:
            floats.compare(self.changes, values, decisions, start=portion.start)
        self._judge(values, decisions, portion, examples)

    def _judge(self, values: Batch, decisions: np.ndarray | None, portion: Portion, examples: Examples) -> None:
        if self.scoring.metric is None:
            return
        if decisions is not None:
            self.decisions.append(decisions)
        positions = np.arange(portion.start, portion.start + portion.images)
        inputs = examples.read(positions) if self.scoring.reads_inputs else ()
        rows = self.scoring.rows(values, inputs, start=portion.start)
        if rows is not None:
            self.scored.append(rows)

    def measured(self) -> Measured:
        """Everything, after the last portion."""
        return Measured(
            candidate=self.candidate,
            examples=self.examples,
            decisions=np.concatenate(self.decisions) if self.decisions else None,
            scored=np.concatenate(self.scored) if self.scored else None,
            outputs=_joined(self.outputs) if self.outputs else None,
            golden_outputs=self.golden_outputs,
            output_specs=self.specs,
            grid_specs=self.grids,
            coverage=self.coverage,
            changes=self.changes,
        )

    def _read_plan(self, answer: dict[str, Any]) -> None:
        try:
            coverage, notes = coverage_of_answer(answer["plan"])
            account = self.bundle.manifest.quantization.get(self.candidate.scheme)
            self.coverage = None if coverage is None else as_promised(coverage, account)
            notes = (*answer["notes"], *notes)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RuntimeFailure(
                f"{self.candidate.label}: expected the operations it executes, found a plan that cannot be read "
                f"({type(error).__name__}: {error})"
            ) from error
        self.notes += [f"{self.candidate.label}: {note}" for note in notes]

    def _check(self, outputs: Batch, examples: int) -> None:
        expected = [((examples, *spec.shape[1:]), spec.dtype) for spec in self.specs]
        if [(array.shape, array.dtype.name) for array in outputs] != expected:
            found = ", ".join(f"{array.shape} {array.dtype.name}" for array in outputs)
            raise RuntimeFailure(
                f"{self.candidate.label}: expected outputs of shape and type "
                f"{', '.join(f'{shape} {dtype}' for shape, dtype in expected)}, found {found}; export the bundle again"
            )
        for array in outputs:
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            hit = int((~np.isfinite(array)).reshape(examples, -1).any(axis=1).sum())
            raise RuntimeFailure(
                f"{self.candidate.label}: expected finite outputs, found NaN or infinity for {hit} of "
                f"{examples} examples; the model or this runtime is broken on this machine"
            )

    def _compare_with_export(self, outputs: Batch) -> None:
        # The export kept what the production runtime answered; the other kernels round in their own ways.
        if not self.candidate.kind.production:
            return
        expected = self.bundle.golden.expected[self.candidate.name]
        lsb = golden_lsb(outputs, expected, self.specs)
        if (difference := self._difference(outputs, expected)) is not None:
            raise ParityFailure(
                f"{self.candidate.label}: {difference}" + (f" (up to {lsb} LSB apart)" if lsb else "")
                + ": these kernels compute something else; the test examples were not run"
            )
        if lsb and self._as_exported():
            raise ParityFailure(
                f"{self.candidate.label}: up to {lsb} LSB away from the golden outputs of the export, on the same "
                "processor and with the same version of the runtime; the file is not what was exported, or something "
                "disturbs its kernels: export the bundle again and compare"
            )
        if lsb:
            self.notes.append(
                f"{self.candidate.label}: up to {lsb} LSB away from the golden outputs of the export "
                "(another CPU or runtime version)"
            )

    def _difference(self, outputs: Batch, expected: Batch) -> str | None:
        """What is too far from the golden outputs of the export, in words: answers, or where there are none, values."""
        found, wanted = (tuple(map(dequantize, arrays, self.specs)) for arrays in (outputs, expected))
        one, other = self.scoring.decisions(found), self.scoring.decisions(wanted)
        if one is not None and other is not None:
            same = one == other
            if same.mean() >= GOLDEN_AGREEMENT:
                return None
            return f"{int((~same).sum())} of the {same.size} golden examples are given another class than at the export"
        decibels = [db for pair in zip(wanted, found, strict=True) if (db := sqnr_db(*pair)) is not None]
        if min(decibels, default=GOLDEN_DB) >= GOLDEN_DB:
            return None
        return f"its golden outputs are {min(decibels):.1f} dB from those of the export"

    def _as_exported(self) -> bool:
        """Whether this is the very processor and runtime whose answers the bundle has: integers repeat exactly."""
        if GOLDEN not in self.candidate.kind.checks:
            return False
        package = self.candidate.kind.packages[0]
        manifest, identity = self.bundle.manifest, processor_identity()
        return (
            self.candidate.target.name == CPU
            and identity["cpu_flags_sha256"] is not None and identity == manifest.exported_on
            and package in manifest.tools and manifest.tools[package] == version_of(package)
        )


def collect_answers(
    candidates: Sequence[Candidate], bundle: Bundle, examples: Examples, scoring: Scoring, *, timeout_seconds: float,
    folder: Path,
) -> Answers:
    """Run all `candidates` on `examples` and on the golden inputs; `folder` holds the files in between.

    Each candidate runs on every core, as one single-threaded process per core, or in one process where that is done
    before others would have started. One that fails is reported in `errors` and not run further.

    Raises:
        DataError: an image that cannot be read, or answers that the metric cannot score.
        StorageError: no room for the inputs in `folder`.
    """
    if not candidates:
        return Answers(measured={}, errors={}, notes=())
    # Float Keras first: the others' answers are compared with its own, portion by portion.
    ordered = sorted(candidates, key=lambda candidate: candidate.runtime != KERAS)
    collectors = {candidate.label: _Collector(candidate, bundle, scoring) for candidate in ordered}
    floats = Reference(targets=scoring.targets, exported=_exported_decisions(bundle, scoring))
    kinds = list(dict.fromkeys(candidate.input_kinds for candidate in candidates))
    golden = {
        item: write_arrays(folder, f"golden-{number}", bundle.golden.inputs, item) for number, item in enumerate(kinds)
    }
    errors: dict[str, RuntimeFailure] = {}
    cores = usable_cores()
    for portion in portions(examples, kinds=kinds, cores=cores, folder=folder):
        with up_to((portion.start + portion.images) / len(examples)):
            for number, (label, collector) in enumerate(collectors.items(), start=1):
                if label in errors:
                    continue
                doing(label)
                try:
                    with (
                        up_to(number / len(collectors)),
                        _pool(collector.candidate, cores, timeout_seconds, folder) as pool,
                    ):
                        if not collector.started:
                            collector.start(pool, golden[collector.candidate.input_kinds])
                        collector.run(pool, portion, examples, floats)
                except RuntimeFailure as error:
                    errors[label] = error
                    say(str(error))
    notes = [note for collector in collectors.values() for note in collector.notes]
    done = {label: collector.measured() for label, collector in collectors.items() if label not in errors}
    return Answers(measured=done, errors=errors, notes=tuple(notes))


def float_answers(answers: Answers, bundle: Bundle, scoring: Scoring, images: int) -> FloatAnswers:
    """Return float Keras's answers: of its row if that ran, else, of a classifier, those that the bundle has."""
    keras = next((row for row in answers.measured.values() if row.candidate.runtime == KERAS and row.examples), None)
    exported = _exported_decisions(bundle, scoring)
    if exported is not None:
        exported = exported[:images]
        if keras is None:
            return FloatAnswers(
                decisions=exported, scored=None if scoring.targets is None else exported == scoring.targets,
                notes=(
                    "float Keras did not run here: deltas compare with its predictions from the export (golden.npz)",
                ),
            )
        different = int(np.sum(keras.decisions != exported))
        notes = (
            f"float Keras predicts another class here than at the export for {different} of {images} test examples",
        ) if different else ()
        return FloatAnswers(decisions=keras.decisions, scored=keras.scored, notes=notes)
    if keras is None:
        return FloatAnswers(decisions=None, scored=None, notes=(
            "float Keras did not run here, and the bundle has none of its answers to these examples: nothing was "
            "compared with it but the golden outputs; let the runtime keras take part (validate.runtimes)",
        ))
    return FloatAnswers(decisions=keras.decisions, scored=keras.scored)


def _exported_decisions(bundle: Bundle, scoring: Scoring) -> np.ndarray | None:
    """Return the classes that float Keras gave the test images at the export; None where the bundle has none."""
    return bundle.golden.test_float_top1 if scoring.metric is METRICS["top1"] else None


def _float_specs(bundle: Bundle) -> tuple[TensorSpec, ...]:
    """The outputs of float Keras, which has no artifact that says them."""
    return tuple(
        TensorSpec(name="float Keras", shape=(1, *array.shape[1:]), dtype=array.dtype.name)
        for array in bundle.golden.float_outputs
    )


def _joined(parts: Sequence[Batch]) -> Batch:
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _pool(candidate: Candidate, cores: int, timeout_seconds: float, folder: Path) -> Pool:
    size, threads = candidate.target.processes or cores, 1
    if candidate.kind.one_process:
        size, threads = 1, cores
    return Pool(
        candidate.label,
        runtime=candidate.runtime,
        path=candidate.path,
        options={**candidate.options, "threads": threads},
        size=size,
        timeout_seconds=timeout_seconds,
        folder=folder,
        target=candidate.target,
        sha256=None if candidate.artifact is None else candidate.artifact.sha256,
    )


def _check_tensors(
    label: str, what: str, expected: Sequence[TensorSpec], found: Sequence[dict[str, Any]]
) -> None:
    """The manifest and the file agree. Raises RuntimeFailure."""
    if not found:  # a command line tool, which tells nothing
        return
    if len(found) != len(expected):
        raise RuntimeFailure(
            f"{label}: expected {len(expected)} {what}(s) (manifest.json), found {len(found)} in the file; export the "
            "bundle again"
        )
    for spec, item in zip(expected, found, strict=True):
        for key, wanted, answer in _differences(spec, item):
            raise RuntimeFailure(
                f"{label}: {what}: expected {key} {wanted} (manifest.json), found {answer} in the file; "
                "export the bundle again"
            )


def _differences(expected: TensorSpec, found: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    if found["dtype"] != expected.dtype:
        yield "type", expected.dtype, found["dtype"]
    if tuple(found["shape"]) != expected.shape:
        yield "shape", expected.shape, tuple(found["shape"])
    for key in ("scale", "zero_point"):
        wanted, answer = getattr(expected, key), found[key]
        # None: this runtime does not tell. float32, since the manifest's decimal may be a rounded one.
        if answer is not None and (wanted is None or np.float32(wanted) != np.float32(answer)):
            yield key, wanted, answer
