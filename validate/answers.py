"""Run every candidate on all test images and on the golden inputs; everything else compares these outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.artifact import TensorSpec
from edgeship.core.cpu import processor_identity
from edgeship.core.errors import ParityFailure, RuntimeFailure
from edgeship.core.measurement import Coverage
from edgeship.core.progress import say, track
from edgeship.data import Images
from edgeship.validate.process.machine import usable_cores
from edgeship.validate.process.pool import NotMeasured, Pool
from edgeship.validate.questions.accuracy import top1_of
from edgeship.validate.questions.coverage import coverage_of_answer, with_kept_float
from edgeship.validate.questions.parity import golden_lsb, on_grid
from edgeship.validate.runner.machine import version_of
from edgeship.validate.runner.table import GOLDEN
from edgeship.validate.subject.bundle import Bundle
from edgeship.validate.subject.inputs import InputKind, Portion, portions, write_array
from edgeship.validate.subject.rows import CPU, KERAS, Answers, Candidate, Measured, grid_spec_of

# Rounding alone moves the answer of well under 2 % of images (measured: 0.3 to 0.6 % between any two kernels on
# 34 layers), so that a quarter of a handful of golden images is no accident.
GOLDEN_AGREEMENT = 0.75
FLOAT_OUTPUT = TensorSpec(name="float Keras", shape=(), dtype="float32")


class _Collector:
    """What is known of one candidate while the portions go by."""

    def __init__(self, candidate: Candidate, bundle: Bundle) -> None:
        self.candidate = candidate
        self.bundle = bundle
        self.spec = FLOAT_OUTPUT if candidate.artifact is None else candidate.artifact.outputs[0]
        self.grid = grid_spec_of(candidate, bundle)
        self.started = False
        self.outputs: list[np.ndarray] = []  # of integer artifacts: a float row would fill the memory
        self.top1: list[np.ndarray] = []
        self.golden_outputs: np.ndarray | None = None
        self.coverage: Coverage | None = None
        self.notes: list[str] = []

    def start(self, pool: Pool, golden: Path) -> None:
        """Once per candidate: is it what the manifest says, what does it execute, its golden outputs."""
        artifact, label = self.candidate.artifact, self.candidate.label
        self.started = True
        if artifact is not None:
            _check_tensor(label, "input", artifact.inputs[0], pool.loaded["inputs"])
            _check_tensor(label, "output", artifact.outputs[0], pool.loaded["outputs"])
        try:
            (_, self.golden_outputs), = pool.run([golden])
        except NotMeasured as reason:
            self.notes.append(f"{label}: accuracy and parity not measured: {reason}")
        else:
            self._check(self.golden_outputs, len(self.bundle.golden.inputs))
            self._compare_with_export(self.golden_outputs)
        if self.candidate.is_integer:  # also of an integer file with float inputs and outputs
            self._read_plan(pool.ask("plan"))

    def run(self, pool: Pool, portion: Portion) -> None:
        """All images of a portion."""
        if self.golden_outputs is None:  # its tool gives none
            return
        if self.candidate.golden_only:
            if portion.start == 0:
                self.notes.append(
                    f"{self.candidate.label}: run on the golden images only, since a float inference takes "
                    "seconds under emulation"
                )
            return
        files = portion.files[self.candidate.input_kinds[0]]
        parts: dict[int, np.ndarray] = {}
        for index, outputs in track(pool.run(files), label=self.candidate.label, total=len(files)):
            parts[index] = outputs
        outputs = np.concatenate([parts[index] for index in range(len(files))])
        self._check(outputs, portion.images)
        self.top1.append(top1_of(outputs))
        if self.grid is not None:
            self.outputs.append(on_grid(outputs, self.spec, self.grid))

    def measured(self) -> Measured:
        """Everything, after the last portion."""
        return Measured(
            candidate=self.candidate,
            top1=np.concatenate(self.top1) if self.top1 else None,
            outputs=np.concatenate(self.outputs) if self.outputs else None,
            golden_outputs=self.golden_outputs,
            output_spec=self.spec,
            grid_spec=self.grid,
            coverage=self.coverage,
        )

    def _read_plan(self, answer: dict[str, Any]) -> None:
        try:
            coverage, notes = coverage_of_answer(answer["plan"])
            self.coverage = None if coverage is None else with_kept_float(coverage, self._kept_float())
            notes = (*answer["notes"], *notes)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RuntimeFailure(
                f"{self.candidate.label}: expected the operations it executes, found a plan that cannot be read "
                f"({type(error).__name__}: {error})"
            ) from error
        self.notes += [f"{self.candidate.label}: {note}" for note in notes]

    def _kept_float(self) -> tuple[str, ...]:
        account = self.bundle.manifest.quantization.get(self.candidate.scheme)
        return () if account is None else account.kept_float

    def _check(self, outputs: np.ndarray, images: int) -> None:
        expected = (images, len(self.bundle.manifest.labels)), self.spec.dtype
        if (outputs.shape, outputs.dtype.name) != expected:
            raise RuntimeFailure(
                f"{self.candidate.label}: expected outputs of shape {expected[0]} and type {expected[1]} "
                f"(one per class), found {outputs.shape} and {outputs.dtype.name}; export the bundle again"
            )
        if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
            images_hit = int((~np.isfinite(outputs)).any(axis=1).sum())
            raise RuntimeFailure(
                f"{self.candidate.label}: expected finite outputs, found NaN or infinity for {images_hit} of "
                f"{images} images; the model or this runtime is broken on this machine"
            )

    def _compare_with_export(self, outputs: np.ndarray) -> None:
        # The export kept what the production runtime answered; the other kernels round in their own ways.
        if not self.candidate.kind.production:
            return
        expected = self.bundle.golden.expected[self.candidate.name]
        lsb = golden_lsb(outputs, expected, self.spec)
        same = top1_of(outputs) == top1_of(expected)
        if same.mean() < GOLDEN_AGREEMENT:
            raise ParityFailure(
                f"{self.candidate.label}: {int((~same).sum())} of the {len(same)} golden images are given another "
                "class than at the export" + (f" (up to {lsb} LSB apart)" if lsb else "")
                + ": these kernels compute something else; the test images were not run"
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
    candidates: Sequence[Candidate], bundle: Bundle, test: Images, *, timeout_seconds: float, folder: Path
) -> Answers:
    """Run all `candidates` on `test` and on the golden inputs; `folder` holds the files in between.

    Each candidate runs on every core, as one single-threaded process per core. One that fails is reported in
    `errors` and not run further.

    Raises:
        DataError: an image that cannot be read.
        StorageError: no room for the inputs in `folder`.
    """
    if not candidates:
        return Answers(measured={}, errors={}, notes=())
    collectors = {candidate.label: _Collector(candidate, bundle) for candidate in candidates}
    kinds = list(dict.fromkeys(candidate.input_kinds[0] for candidate in candidates))
    golden = _write_golden(bundle, kinds, folder)
    errors: dict[str, RuntimeFailure] = {}
    cores = usable_cores()
    for portion in portions(test, bundle.manifest.preprocessing, kinds=kinds, cores=cores, folder=folder):
        for label, collector in collectors.items():
            if label in errors:
                continue
            say(f"{label}: test images {portion.start + 1:,} to {portion.start + portion.images:,}")
            try:
                with _pool(collector.candidate, cores, timeout_seconds, folder) as pool:
                    if not collector.started:
                        collector.start(pool, golden[collector.candidate.input_kinds[0]])
                    collector.run(pool, portion)
            except RuntimeFailure as error:
                errors[label] = error
                say(str(error))
    notes = [note for collector in collectors.values() for note in collector.notes]
    done = {label: collector.measured() for label, collector in collectors.items() if label not in errors}
    return Answers(measured=done, errors=errors, notes=tuple(notes))


def float_top1(answers: Answers, bundle: Bundle, images: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Float Keras's predictions, int64 (images,): of its row if that ran, else the bundle's; and notes."""
    exported = bundle.golden.test_float_top1[:images]
    keras = next((row for row in answers.measured.values() if row.candidate.runtime == KERAS), None)
    if keras is None or keras.top1 is None:
        return exported, (
            "float Keras did not run here: deltas compare with its predictions from the export (golden.npz)",
        )
    different = int(np.sum(keras.top1 != exported))
    notes = (
        f"float Keras predicts another class here than at the export for {different} of {images} test images",
    ) if different else ()
    return keras.top1, notes


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


def _write_golden(bundle: Bundle, kinds: Sequence[InputKind], folder: Path) -> dict[InputKind, Path]:
    return {
        kind: write_array(folder / f"golden-{number}.npy", bundle.golden.inputs, kind)
        for number, kind in enumerate(kinds)
    }


def _check_tensor(label: str, what: str, expected: TensorSpec, found: Sequence[dict[str, Any]]) -> None:
    """The manifest and the file agree. Raises RuntimeFailure."""
    if not found:  # a command line tool, which tells nothing
        return
    for key, wanted, answer in _differences(expected, found[0]):
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
