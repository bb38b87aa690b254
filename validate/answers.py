"""Run every candidate on all test images and on the golden inputs; everything else compares these outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.artifact import TensorSpec
from edgeship.data import Images
from edgeship.errors import RuntimeFailure
from edgeship.measurement import Coverage
from edgeship.progress import say, track
from validate.accuracy import top1_of
from validate.bundle import Bundle
from validate.inputs import InputKind, Portion, portions, write_array
from validate.machine import usable_cores
from validate.parity import golden_lsb
from validate.rows import KERAS, Candidate, Measured
from validate.runtimes.pool import Pool

FLOAT_OUTPUT = TensorSpec(name="float Keras", shape=(), dtype="float32")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What all candidates answered, by label. A candidate is in exactly one of the two."""

    measured: dict[str, Measured]
    errors: dict[str, str]
    notes: tuple[str, ...]


class _Collector:
    """What is known of one candidate while the portions go by."""

    def __init__(self, candidate: Candidate, bundle: Bundle) -> None:
        self.candidate = candidate
        self.bundle = bundle
        self.spec = FLOAT_OUTPUT if candidate.artifact is None else candidate.artifact.outputs[0]
        self.outputs: list[np.ndarray] = []  # of integer artifacts: a float row would fill the memory
        self.top1: list[np.ndarray] = []
        self.golden_outputs: np.ndarray | None = None
        self.coverage: Coverage | None = None
        self.notes: list[str] = []

    def start(self, pool: Pool, golden: Path) -> None:
        """Once per candidate: is it what the manifest says, what does it execute, its golden outputs."""
        artifact, label = self.candidate.artifact, self.candidate.label
        if artifact is not None:
            _check_tensor(label, "input", artifact.inputs[0], pool.loaded["inputs"])
            _check_tensor(label, "output", artifact.outputs[0], pool.loaded["outputs"])
        if self.candidate.scheme != "float32":  # also of an integer file with float inputs and outputs
            answer = pool.ask("coverage")
            self.coverage = _coverage(answer["coverage"])
            self.notes += [f"{label}: {note}" for note in answer["notes"]]
        (_, self.golden_outputs), = pool.run([golden])
        self._check(self.golden_outputs, len(self.bundle.golden.inputs))
        self._compare_with_export(self.golden_outputs)

    def run(self, pool: Pool, portion: Portion) -> None:
        """All images of a portion."""
        files = portion.files[self.candidate.input_kind]
        parts: dict[int, np.ndarray] = {}
        for index, outputs in track(pool.run(files), label=self.candidate.label, total=len(files)):
            parts[index] = outputs
        outputs = np.concatenate([parts[index] for index in range(len(files))])
        self._check(outputs, portion.images)
        self.top1.append(top1_of(outputs))
        if self.candidate.is_integer:
            self.outputs.append(outputs)

    def measured(self) -> Measured:
        """Everything, after the last portion."""
        assert self.golden_outputs is not None
        return Measured(
            candidate=self.candidate,
            top1=np.concatenate(self.top1),
            outputs=np.concatenate(self.outputs) if self.outputs else None,
            golden_outputs=self.golden_outputs,
            output_spec=self.spec,
            coverage=self.coverage,
        )

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
        lsb = golden_lsb(outputs, self.bundle.golden.expected[self.candidate.name], self.spec)
        if lsb:
            self.notes.append(
                f"{self.candidate.label}: up to {lsb} LSB away from the golden outputs of the export "
                "(another CPU or runtime version)"
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
    kinds = list(dict.fromkeys(candidate.input_kind for candidate in candidates))
    golden = _write_golden(bundle, kinds, folder)
    errors: dict[str, str] = {}
    cores = usable_cores()
    for portion in portions(test, bundle.manifest.preprocessing, kinds=kinds, cores=cores, folder=folder):
        for label, collector in collectors.items():
            if label in errors:
                continue
            say(f"{label}: test images {portion.start + 1:,} to {portion.start + portion.images:,}")
            try:
                with _pool(collector.candidate, cores, timeout_seconds, folder) as pool:
                    if collector.golden_outputs is None:
                        collector.start(pool, golden[collector.candidate.input_kind])
                    collector.run(pool, portion)
            except RuntimeFailure as error:
                errors[label] = str(error)
                say(str(error))
    notes = [note for collector in collectors.values() for note in collector.notes]
    done = {label: collector.measured() for label, collector in collectors.items() if label not in errors}
    return Answers(measured=done, errors=errors, notes=tuple(notes))


def float_top1(answers: Answers, bundle: Bundle, images: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Float Keras's predictions, int64 (images,): of its row if that ran, else the bundle's; and notes."""
    exported = bundle.golden.test_float_top1[:images]
    keras = next((row for row in answers.measured.values() if row.candidate.runtime == KERAS), None)
    if keras is None:
        return exported, (
            "float Keras did not run here: deltas compare with its predictions from the export (golden.npz)",
        )
    different = int(np.sum(keras.top1 != exported))
    notes = (
        f"float Keras predicts another class here than at the export for {different} of {images} test images",
    ) if different else ()
    return keras.top1, notes


def _pool(candidate: Candidate, cores: int, timeout_seconds: float, folder: Path) -> Pool:
    size, threads = (1, cores) if candidate.kind.one_process else (cores, 1)
    return Pool(
        candidate.label,
        runtime=candidate.runtime,
        path=candidate.path,
        options={**candidate.options, "threads": threads},
        size=size,
        timeout_seconds=timeout_seconds,
        folder=folder,
    )


def _write_golden(bundle: Bundle, kinds: Sequence[InputKind], folder: Path) -> dict[InputKind, Path]:
    return {
        kind: write_array(folder / f"golden-{number}.npy", bundle.golden.inputs, kind)
        for number, kind in enumerate(kinds)
    }


def _coverage(answer: dict[str, Any]) -> Coverage:
    return Coverage(**{**answer, "float_ops": tuple(answer["float_ops"])})


def _check_tensor(label: str, what: str, expected: TensorSpec, found: Sequence[dict[str, Any]]) -> None:
    """The manifest and the file agree. Raises RuntimeFailure."""
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
