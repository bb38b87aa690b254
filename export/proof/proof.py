"""Every exported file against what it was made from, before a bundle is written; nothing is exported without it.

Each file answers in a child process, on the golden examples and on noise, and is held to a bound on its error's power:

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

Each output of a network is held to a bound of its own.

What is measured on some dozens of examples has noise of its own: MARGIN, in power. A file that is wrong is far beyond
(a lost bias, swapped scales: 20 to 40 dB), and what it shows on no input, `account.py` and `export/checks.py` see.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import TensorSpec
from edgeship.core.bounds import least_sqnr_db, relative_noise
from edgeship.core.errors import ExportError
from edgeship.core.integers import dequantize, quantize
from edgeship.core.layer_names import layer_name
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.data.examples import Batch
from edgeship.export.proof.exported import ExportedFile
from edgeship.export.proof.first_bad import first_bad_layer
from edgeship.export.proof.golden import Specs, specs_of
from edgeship.export.proof.runs import Job, run_files
from edgeship.export.samples import NOISE_SEED, Samples
from edgeship.export.tflite.rounding import without_rounding
from edgeship.graph import graph_from_bytes
from edgeship.graph.content import Content, content_of

CONDITION_STEP = 48 * 2.0**-24
KERNELS_TO_ROUNDING = 3.0
OUTPUT_FLOOR_LSB2 = 0.25
MARGIN = 4.0
BATCH = 32
CODES = 255  # steps of an 8-bit grid
# Its weights are those of weight-only-int8, and 16 bits of an activation are nothing beside 8 of a weight.
BOUND_OF = {"int16x8-ptq": "weight-only-int8"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A file, what it was asked (in its own dtypes, and as real numbers), and its real answers, an array per output."""

    file: ExportedFile
    content: Content
    job: Job
    given: Batch
    values: Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a file must answer, and what rounding may add to each output, as a mean of squares."""

    outputs: Batch
    allowed: tuple[float, ...]


def prove(
    files: Sequence[ExportedFile], *, models: Mapping[str, tf_keras.Model], samples: Samples
) -> dict[str, Batch]:
    """Run every file and hold its answers against its model's.

    Args:
        files: all files of an export; an .ort file comes after the .onnx file it was made from.
        models: scheme -> the flat Keras model that its files were made from.
        samples: the golden examples and the noise that the files are asked.

    Returns:
        By file name, its raw answers to the golden examples, in its own dtypes, as an application gets them on this
        machine.

    Raises:
        ExportError: a file that its runtime refuses or crashes on, or that answers otherwise than its model; the
            message names the first layer that differs.
    """
    inputs, golden = samples.proof, len(samples.golden[0])
    specs: dict[str, Specs] = {}
    contents: dict[str, Content] = {}
    jobs: list[Job] = []
    for file in files:
        if file.format == "ort":  # only its runtime reads it; it has the scales of the .onnx file it was made from
            onnx = file.name.removesuffix(".ort") + ".onnx"
            specs[file.name], contents[file.name] = specs[onnx], contents[onnx]
        else:
            specs[file.name] = specs_of(file.content, format=file.format)
            contents[file.name] = content_of(graph_from_bytes(file.content, where=Path(f"model.{file.format}")))
        codes = tuple(quantize(array, spec) for array, spec in zip(inputs, specs[file.name][0], strict=True))
        job = Job(name=file.name, content=file.content, format=file.format, inputs=codes)
        jobs += [job, Job(name=file.name, content=file.content, format=file.format, inputs=codes, optimized=False)]
    jobs = [job for job in jobs if job.optimized or _is_for_other_processors(job)]
    answers = [tuple(answer) for answer in run_files(jobs)]
    as_shipped = {job.name: answer for job, answer in zip(jobs, answers, strict=True) if job.optimized}
    meant = {job.name: (job, answer) for job, answer in zip(jobs, answers, strict=True)}  # the unoptimized one wins
    references = _References(models)
    trials: dict[str, Trial] = {}
    for file in files:
        job, answer = meant[file.name]
        entries, results = specs[file.name]
        trial = Trial(
            file=file, content=contents[file.name], job=job, given=_real(job.inputs, entries),
            values=_real(answer, results),
        )
        trials[file.name] = trial
        grid = specs[file.same_grid_as][1] if file.same_grid_as in specs else results
        reference, model = references.of(trial, grid), models[file.scheme]
        _check(trial, reference, model)
        if file.same_grid_as in trials:
            sibling = dataclasses.replace(reference, outputs=trials[str(file.same_grid_as)].values)
            _check(trial, sibling, model)
    return {name: tuple(array[:golden] for array in answer) for name, answer in as_shipped.items()}


class _References:
    """The references, each computed once: what a model answers does not depend on the format."""

    def __init__(self, models: Mapping[str, tf_keras.Model]) -> None:
        self._models = models
        self._known: dict[tuple[int, bytes], tuple[Batch, tuple[float, ...]]] = {}

    def of(self, trial: Trial, grid: Sequence[TensorSpec]) -> Reference:
        """Return the reference of a trial; `grid` are the specs that say on which grid its outputs were rounded."""
        file, model = trial.file, self._models[trial.file.scheme]
        rounds = SCHEMES[file.scheme].source == FAKE_QUANTIZED
        key = id(model), b"".join(array.tobytes() for array in trial.given)
        if key not in self._known:
            outputs, others = _ask(model, trial.given), (_unrounded if rounds else _nudged)(model, trial.given)
            self._known[key] = outputs, tuple(
                _power(one - other) for one, other in zip(outputs, others, strict=True)
            )
        outputs, conditions = self._known[key]
        if rounds:
            allowed = [_of_rounding(*item) for item in zip(outputs, conditions, grid, strict=True)]
        else:
            scheme = BOUND_OF.get(file.scheme, file.scheme)
            steps = max(1.0, relative_noise(scheme) * trial.content.products / CONDITION_STEP**2)
            bound_db = least_sqnr_db(scheme, products=trial.content.products)
            assert bound_db is not None  # schemes of fake-quantized models have another bound
            allowed = [
                max(_power(output) * 10 ** (-bound_db / 10), MARGIN * condition * steps, resolution**2)
                for output, condition, resolution in zip(
                    outputs, conditions, trial.content.resolutions_of(len(outputs)), strict=True
                )
            ]
        return Reference(outputs=outputs, allowed=tuple(allowed))


def _check(trial: Trial, reference: Reference, model: tf_keras.Model) -> None:
    names = [layer_name(name) for name in model.output_names]
    for name, found, wanted, allowed in zip(names, trial.values, reference.outputs, reference.allowed, strict=True):
        noise = _power(found - wanted) if found.shape == wanted.shape else math.inf
        if noise <= allowed:
            continue
        layer = first_bad_layer(trial.job, model, trial.given)
        which = f" (output {name})" if len(names) > 1 else ""
        away = "of another shape" if noise == math.inf else f"up to {np.abs(found - wanted).max():.3g} away"
        raise ExportError(
            f"{trial.file.name}: it does not compute what the Keras model computes: {_db(wanted, noise)} on "
            f"{len(found)} inputs, expected {_db(wanted, allowed)} or more; its answers{which} are {away}"
            + (f"; the first layer that differs is {layer}" if layer is not None else "")
        )


def _real(arrays: Batch, specs: Sequence[TensorSpec]) -> Batch:
    return tuple(dequantize(array, spec) for array, spec in zip(arrays, specs, strict=True))


def _of_rounding(output: np.ndarray, condition: float, result: TensorSpec) -> float:
    """Return what rounding may add to one output of an int8 network."""
    # An output that is kept in float has no step; it is what 8 bits would leave.
    lsb = float(np.ptp(output)) / CODES if result.scale is None else result.scale
    return MARGIN * (KERNELS_TO_ROUNDING * condition + OUTPUT_FLOOR_LSB2 * lsb**2)


def _ask(model: tf_keras.Model, inputs: Batch) -> Batch:
    """Called and not predicted: what a rounding layer does is Python state, which `predict` would have compiled."""
    answers = [
        tf.nest.flatten(model([tf.constant(array[start : start + BATCH]) for array in inputs], training=False))
        for start in range(0, len(inputs[0]), BATCH)
    ]
    return tuple(np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*answers, strict=True))


def _unrounded(model: tf_keras.Model, inputs: Batch) -> Batch:
    with without_rounding(model):
        return _ask(model, inputs)


def _nudged(model: tf_keras.Model, inputs: Batch) -> Batch:
    """Return the answers to inputs that differ a little; integers stay, since another token is another meaning."""
    generator = np.random.default_rng(NOISE_SEED)
    return _ask(model, tuple(
        (array + generator.normal(size=array.shape) * (CONDITION_STEP * np.abs(array).max())).astype(np.float32)
        if array.dtype.kind == "f" else array
        for array in inputs
    ))


def _is_for_other_processors(job: Job) -> bool:
    """Whether an .onnx file has products whose integer kernels may saturate on this machine's processor."""
    if job.format != "onnx" or job.inputs[0].dtype.kind == "f":
        return False
    graph = graph_from_bytes(job.content, where=Path("model.onnx"))
    return any(item.weights.dtype == "int8" for item in graph.weighted_operations())


def _power(values: np.ndarray) -> float:
    return float(np.mean(np.square(values, dtype=np.float64)))


def _db(signal: np.ndarray, noise: float) -> str:
    power = _power(signal)
    return f"{10 * np.log10(power / noise):.1f} dB" if noise and power else "no noise"
