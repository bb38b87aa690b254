"""Every exported file against what it was made from, before a bundle is written; nothing is exported without it.

Each file answers in a child process, on the golden images and on noise, and is held to a bound on its error's power:

    float32, float16, dynamic-int8, weight-only-int8    against the float model, as `edgeship.core.bounds` derives it
    int8                                                against the fake-quantized Keras model, and against its sibling

Both bounds grow with what the network itself makes of rounding, which is measured:

    a float network     its answers to inputs that differ by CONDITION_STEP of the largest one. That is what one layer
                        may add: 4,608 products summed in float32 are off by about 48 x 2^-24 (edgeship/core/bounds.py).
                        Weights in fewer bits add more, and the network amplifies that alike.
    an int8 network     its answers with and without the rounding of activations. A kernel gives one of the two codes
                        around the exact result. Where that is the wrong one, which it is in a quarter of all places at
                        most, it is off by 1 LSB: in the mean of the squares 1/4 LSB^2, three times the 1/12 LSB^2 of
                        rounding (Bennett 1948) in the same places. Behind the last rounding there is nothing to
                        measure, so 1/4 LSB^2 of the output itself come on top.

What is measured on some dozens of images has noise of its own: MARGIN, in power. A file that is wrong is far beyond
(a lost bias, swapped scales: 20 to 40 dB), and what it shows on no input, `account.py` and `export/checks.py` see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing, TensorSpec
from edgeship.core.bounds import least_sqnr_db, relative_noise
from edgeship.core.errors import ExportError
from edgeship.core.integers import dequantize, quantize
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.data import preprocess
from edgeship.export.proof.exported import ExportedFile
from edgeship.export.proof.first_bad import first_bad_layer
from edgeship.export.proof.golden import Specs, specs_of
from edgeship.export.proof.runs import Job, run_files
from edgeship.export.tflite.rounding import without_rounding
from edgeship.graph import graph_from_bytes

NOISE_IMAGES, NOISE_SEED = 8, 0
CONDITION_STEP = 48 * 2.0**-24
KERNELS_TO_ROUNDING = 3.0
OUTPUT_FLOOR_LSB2 = 0.25
MARGIN = 4.0
BATCH = 32
SOFTMAX_LSB = 1 / 256
# Its weights are those of weight-only-int8, and 16 bits of an activation are nothing beside 8 of a weight.
BOUND_OF = {"int16x8-ptq": "weight-only-int8"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A file, what it was asked (in its own dtype, and as real numbers), and its real answers `(n, classes)`."""

    file: ExportedFile
    products: int
    job: Job
    given: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a file must answer, float32 `(n, classes)`, and what rounding may add, as a mean of squares."""

    outputs: np.ndarray
    allowed: float


def prove(
    files: Sequence[ExportedFile], *, models: Mapping[str, tf_keras.Model], golden: np.ndarray, spec: Preprocessing
) -> dict[str, np.ndarray]:
    """Run every file and hold its answers against its model's.

    Args:
        files: all files of an export; an .ort file comes after the .onnx file it was made from.
        models: scheme -> the flat Keras model that its files were made from.
        golden: preprocessed images, float32 `(n, h, w, c)`.

    Returns:
        By file name, its raw answers to `golden`, in its own dtype, as an application gets them on this machine.

    Raises:
        ExportError: a file that its runtime refuses or crashes on, or that answers otherwise than its model; the
            message names the first layer that differs.
    """
    inputs = np.concatenate([golden, noise_like(golden, spec)])
    specs: dict[str, Specs] = {}
    products: dict[str, int] = {}
    jobs: list[Job] = []
    for file in files:
        if file.format == "ort":  # only its runtime reads it; it has the scales of the .onnx file it was made from
            onnx = file.name.removesuffix(".ort") + ".onnx"
            specs[file.name], products[file.name] = specs[onnx], products[onnx]
        else:
            specs[file.name] = specs_of(file.content, format=file.format)
            products[file.name] = _products(file.content, file.format)
        codes = quantize(inputs, specs[file.name][0][0])
        job = Job(name=file.name, content=file.content, format=file.format, inputs=codes)
        jobs += [job, Job(name=file.name, content=file.content, format=file.format, inputs=codes, optimized=False)]
    jobs = [job for job in jobs if job.optimized or _is_for_other_processors(job)]
    answers = [answer for answer, in run_files(jobs)]
    as_shipped = {job.name: answer for job, answer in zip(jobs, answers, strict=True) if job.optimized}
    meant = {job.name: (job, answer) for job, answer in zip(jobs, answers, strict=True)}  # the unoptimized one wins
    references = _References(models)
    trials: dict[str, Trial] = {}
    for file in files:
        job, answer = meant[file.name]
        entry, result = specs[file.name][0][0], specs[file.name][1][0]
        trial = Trial(
            file=file, products=products[file.name], job=job, given=dequantize(job.inputs, entry),
            values=dequantize(answer, result),
        )
        trials[file.name] = trial
        reference, model = references.of(trial, result), models[file.scheme]
        _check(trial, reference, model)
        if file.same_grid_as in trials:
            sibling = dataclasses.replace(reference, outputs=trials[str(file.same_grid_as)].values)
            _check(trial, sibling, model)
    return {name: answer[: len(golden)] for name, answer in as_shipped.items()}


def noise_like(golden: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Images of uniform noise, preprocessed: float32 `(NOISE_IMAGES, h, w, c)`."""
    pixels = np.random.default_rng(NOISE_SEED).integers(0, 256, (NOISE_IMAGES, *golden.shape[1:]), dtype=np.uint8)
    return preprocess(pixels, spec)


class _References:
    """The references, each computed once: what a model answers does not depend on the format."""

    def __init__(self, models: Mapping[str, tf_keras.Model]) -> None:
        self._models = models
        self._known: dict[tuple[int, bytes], tuple[np.ndarray, float]] = {}

    def of(self, trial: Trial, result: TensorSpec) -> Reference:
        file, model = trial.file, self._models[trial.file.scheme]
        rounds = SCHEMES[file.scheme].source == FAKE_QUANTIZED
        key = id(model), trial.given.tobytes()
        if key not in self._known:
            outputs, other = _ask(model, trial.given), (_unrounded if rounds else _nudged)(model, trial.given)
            self._known[key] = outputs, _power(outputs - other)
        outputs, condition = self._known[key]
        if rounds:
            lsb = SOFTMAX_LSB if result.scale is None else result.scale  # a file with float outputs has that grid too
            allowed = MARGIN * (KERNELS_TO_ROUNDING * condition + OUTPUT_FLOOR_LSB2 * lsb**2)
        else:
            scheme = BOUND_OF.get(file.scheme, file.scheme)
            steps = max(1.0, relative_noise(scheme) * trial.products / CONDITION_STEP**2)
            bound_db = least_sqnr_db(scheme, products=trial.products)
            assert bound_db is not None  # schemes of fake-quantized models have another bound
            allowed = max(_power(outputs) * 10 ** (-bound_db / 10), MARGIN * condition * steps)
        return Reference(outputs=outputs, allowed=allowed)


def _products(content: bytes, format: str) -> int:
    """Convolutions and matrix products with constant weights."""
    return sum(1 for _ in graph_from_bytes(content, where=Path(f"model.{format}")).weighted_operations())


def _check(trial: Trial, reference: Reference, model: tf_keras.Model) -> None:
    found, wanted = trial.values, reference.outputs
    noise = _power(found - wanted)
    if noise <= reference.allowed:
        return
    layer = first_bad_layer(trial.job, model, trial.given)
    raise ExportError(
        f"{trial.file.name}: it does not compute what the Keras model computes: {_db(wanted, noise)} on {len(found)} "
        f"inputs, expected {_db(wanted, reference.allowed)} or more; its answers are up to "
        f"{np.abs(found - wanted).max():.3g} away"
        + (f"; the first layer that differs is {layer}" if layer is not None else "")
    )


def _ask(model: tf_keras.Model, inputs: np.ndarray) -> np.ndarray:
    """Called and not predicted: what a rounding layer does is Python state, which `predict` would have compiled."""
    batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
    return np.concatenate([np.asarray(model(tf.constant(batch), training=False)) for batch in batches])


def _unrounded(model: tf_keras.Model, inputs: np.ndarray) -> np.ndarray:
    with without_rounding(model):
        return _ask(model, inputs)


def _nudged(model: tf_keras.Model, inputs: np.ndarray) -> np.ndarray:
    steps = np.random.default_rng(NOISE_SEED).normal(size=inputs.shape) * (CONDITION_STEP * np.abs(inputs).max())
    return _ask(model, (inputs + steps).astype(np.float32))


def _is_for_other_processors(job: Job) -> bool:
    """Whether an .onnx file has products whose integer kernels may saturate on this machine's processor."""
    if job.format != "onnx" or job.inputs.dtype.kind == "f":
        return False
    graph = graph_from_bytes(job.content, where=Path("model.onnx"))
    return any(item.weights.dtype == "int8" for item in graph.weighted_operations())


def _power(values: np.ndarray) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))


def _db(signal: np.ndarray, noise: float) -> str:
    power = _power(signal)
    return f"{10 * np.log10(power / noise):.1f} dB" if noise and power else "no noise"
