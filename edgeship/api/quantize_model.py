"""From a float model and calibration data to a quantized model: the calls `quantize_model` and `lower_model`."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.api.options import section, several
from edgeship.api.progress import Progress, showing
from edgeship.api.quantized import QuantizedModel
from edgeship.core.config import QuantizeConfig
from edgeship.core.errors import DataError, ModelError
from edgeship.core.layer_names import layer_name
from edgeship.core.output_forms import AUTO, resolve
from edgeship.core.progress import fact, stage
from edgeship.data.arrays import GivenBatch, Port, given_batches
from edgeship.data.examples import Batch, as_model_takes, examples_of_arrays, examples_sha256
from edgeship.model.build import check_weights, load_model
from edgeship.model.first_values import lost_in_rounding, squeezed
from edgeship.model.keras3 import as_keras2
from edgeship.model.keras_code import FOR_PYTHON
from edgeship.quantize import best
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import input_specs, leaves_sizes_open, lower
from edgeship.quantize.output_form import SoftmaxSeen
from edgeship.quantize.prepare import CHECKED_EXAMPLES, calibrate

GOLDEN_EXAMPLES = 32
BEST = "best"  # the method that tries all others


def quantize_model(
    model: Any,
    calibration: Any,
    *,
    input_ranges: Sequence[tuple[float, float]] | None = None,
    method: str = "min-max",
    keep_float: Sequence[str] = (),
    weight_bits: int = 8,
    weight_range: str = "full",
    weight_scales: str = "per-channel",
    ema_decay: float = 0.99,
    progress: Progress = False,
) -> QuantizedModel:
    """Give a float model int8 weights and activations, with ranges from calibration data.

    Args:
        model: any built Keras model (Keras 2 or Keras 3), with layers of your own; it is left as it was. Or the path of
            a saved one: `.keras`, `.h5`, or a SavedModel folder that tf_keras wrote; code in a file is not run.
        calibration: inputs as the model takes them, without labels: an array, a list or dict of arrays (several
            inputs), a `tf.data.Dataset` of batches, or any iterable of batches. 100 to 500 examples are usual. Sizes
            that the model leaves open are those of the examples.
        input_ranges: the smallest and largest value of each input, where they are known (pixels from 0 to 1); None:
            those of the calibration data. Calibration data outside of them are refused.
        method: how ranges are chosen: "min-max", "percentile" or "mse"; "best" tries these, equalization, bias
            correction and rounding by the layers' answers, and keeps what helps on a quarter of the examples that it
            sets apart (the examples are held in memory, and the ranges stay in a training that follows).
        keep_float: names of layers that stay in float.
        weight_bits: 8, or 7 for processors whose uint8 x int8 products saturate.
        weight_range: "full", or "pair-safe": 8 bits whose products cannot saturate on these processors.
        weight_scales: "per-channel", or "per-tensor": one scale for a whole kernel, for devices that know no other.
        ema_decay: of the ranges' moving average, per training step.
        progress: True writes lines to standard error; a function gets them.

    A UserWarning says where the model's first layers leave next to nothing of the inputs, as `Rescaling(1 / 255)` does
    of pixels that are from 0 to 1 already.

    Returns:
        The quantized model: export it as it is (post-training quantization), or train its `.keras` first.

    Raises:
        LoweringError: a layer that cannot be opened or that integers cannot compute; the message names it.
        DataError: calibration data that are empty, of another shape or type, have NaN, or are outside `input_ranges`.
        ModelError: a tensor that is NaN, or constant, on the calibration data; a saved model that cannot be read.
        ConfigError: an option out of range.

    Example:
        >>> import edgeship, numpy, tf_keras
        >>> model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(2, name="out")])
        >>> quantized = edgeship.quantize_model(model, numpy.random.rand(64, 4).astype("float32"))
        >>> quantized.account.quantized
        ('out',)
    """
    searches = method == BEST
    options = {
        "weight_bits": weight_bits, "weight_range": weight_range, "weight_scales": weight_scales,
        "ema_decay": ema_decay, "calibration": "min-max" if searches else method,
    }
    config: QuantizeConfig = section(QuantizeConfig, "quantize", options)
    with showing(progress), stage("quantize", f"int8, ranges by {method}"):
        flat, given = _lowered_for(model, calibration)
        check_weights(flat)
        ports = ports_of(flat)
        spans = _known_spans(input_ranges, ports)
        made = insert_fake_quantization(
            flat, input_ranges=spans, ema_decay=config.ema_decay, weight_bits=config.weight_bits,
            weight_range=config.weight_range, weight_scales=config.weight_scales, keep_float=several(keep_float),
        )
        seen = _Seen(given)
        first = next(seen)
        made.check_in_float([array[:CHECKED_EXAMPLES] for array in first], on="calibration data")
        softmax = SoftmaxSeen(flat)
        batches = (softmax.passed(as_model_takes(batch)) for batch in itertools.chain([first], seen))
        if searches:
            made = dataclasses.replace(made, notes=best.found(made, *best.parts(list(batches))))
        else:
            calibrate(made, batches, method=config.calibration)
        _check_within(spans, seen.spans, ports)
        _check_outputs(flat, seen.golden)
        if len(ports) == 1 and (found := squeezed(flat, seen.golden[0])) is not None:
            warnings.warn(
                f"calibration: {found}; was the model trained on inputs of another scale, pixels of 0..255 for "
                "example?", stacklevel=2,
            )
        if len(ports) == 1 and (found := lost_in_rounding(flat, seen.golden[0])) is not None:
            warnings.warn(f"calibration: {found}", stacklevel=2)
        fact(made.account.sentence)
        output = resolve(AUTO, softmax.facts) if softmax.facts else None
        if output is not None:
            fact(f"output {output}: " + "; ".join(item.sentence for item in softmax.facts))
    return QuantizedModel(
        made, seen.golden, [known or span for known, span in zip(spans, seen.spans, strict=True)],
        examples_sha256(examples_of_arrays(seen.golden)), output=output,
    )


def _lowered_for(model: Any, calibration: Any) -> tuple[tf_keras.Model, Iterator[GivenBatch]]:
    """Return the lowered network and the calibration batches, which tell the sizes that the model leaves open."""
    model = as_keras2(_loaded(model))
    if not leaves_sizes_open(model):
        flat = lower(model)
        return flat, given_batches(calibration, ports_of(flat), who="calibration")
    ports = [
        Port(
            name=spec.name, shape=tuple(spec.shape[1:]),
            dtype="float32" if spec.dtype.is_floating else spec.dtype.name,
        )
        for spec in input_specs(model)
    ]
    given = given_batches(calibration, ports, who="calibration")
    first = next(given)
    sizes = [array.shape[1:] for array in first.inputs]
    fixed = [dataclasses.replace(port, shape=size) for port, size in zip(ports, sizes, strict=True)]
    fact("the model's open sizes are those of the calibration examples: " + "; ".join(map(str, fixed)))
    return lower(model, sizes=sizes), itertools.chain([first], _of_one_size(given, fixed))


def _of_one_size(given: Iterator[GivenBatch], ports: Sequence[Port]) -> Iterator[GivenBatch]:
    for batch in given:
        for array, port in zip(batch.inputs, ports, strict=True):
            if array.shape[1:] != port.shape:
                raise DataError(
                    f"calibration: expected {port} as in the first batch, since files have fixed sizes, found an array "
                    f"of shape {array.shape}; resize the examples to one size"
                )
        yield batch


def lower_model(model: Any) -> tf_keras.Model:
    """Return the same float network as a flat functional tf_keras model of standard layers, with weights of its own.

    Args:
        model: any built Keras model (Keras 2 or Keras 3), with layers of your own, which is left as it was; or the path
            of a saved one, as `quantize_model` takes it.

    Raises:
        LoweringError: a layer that cannot be opened; the message names the layer and the operation.
        ModelError: no such file, one that is damaged or has code in it, or a class that is not registered.
    """
    flat: tf_keras.Model = lower(_loaded(model))
    return flat


def _loaded(model: Any) -> Any:
    return load_model(Path(model), remedies=FOR_PYTHON) if isinstance(model, str | os.PathLike) else model


def ports_of(flat: tf_keras.Model) -> list[Port]:
    """Return the inputs of a lowered model."""
    return [
        Port(name=name, shape=tuple(tensor.shape[1:]), dtype=tensor.dtype.name)
        for name, tensor in zip(flat.input_names, flat.inputs, strict=True)
    ]


class _Seen:
    """Passes batches on, and keeps the first examples and the extremes of each input."""

    def __init__(self, batches: Iterator[GivenBatch]) -> None:
        self._batches = batches
        self._kept: list[Batch] = []
        self._count = 0
        self._extremes: list[list[float]] = []

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches).inputs
        if self._count < GOLDEN_EXAMPLES:
            self._kept.append(tuple(array[: GOLDEN_EXAMPLES - self._count].copy() for array in batch))
        self._count += len(batch[0])
        extremes = [[float(array.min()), float(array.max())] for array in batch]
        before = self._extremes or extremes
        self._extremes = [[min(a[0], b[0]), max(a[1], b[1])] for a, b in zip(before, extremes, strict=True)]
        return batch

    @property
    def golden(self) -> Batch:
        """The first examples."""
        return tuple(np.concatenate(parts) for parts in zip(*self._kept, strict=True))

    @property
    def spans(self) -> list[tuple[float, float]]:
        """The smallest and largest value of each input so far."""
        return [(low, high) for low, high in self._extremes]


def _known_spans(
    given: Sequence[tuple[float, float]] | None, ports: Sequence[Port]
) -> list[tuple[float, float] | None]:
    if given is None:
        return [None] * len(ports)
    if len(given) != len(ports) or any(len(span) != 2 or not span[0] < span[1] for span in given):
        raise ModelError(
            f"input_ranges: expected (smallest, largest) for each of {len(ports)} input(s) "
            f"({', '.join(port.name for port in ports)}), found {list(given)}"
        )
    return [(float(low), float(high)) for low, high in given]


def _check_within(
    known: Sequence[tuple[float, float] | None], found: Sequence[tuple[float, float]], ports: Sequence[Port]
) -> None:
    """Refuse calibration data outside of the ranges that the user gave for the inputs. Raises DataError."""
    for span, (smallest, largest), port in zip(known, found, ports, strict=True):
        if span is None:
            continue
        low, high = span
        half = (high - low) / 255 / 2  # of a step: what is no further outside has the code of the end all the same
        if smallest < low - half or largest > high + half:
            raise DataError(
                f"input_ranges: expected the calibration data of {port.name} within {low:g} to {high:g}, found "
                f"{smallest:g} to {largest:g}, and the files would cut off what is outside; correct the range or the "
                "scale of the data, or leave input_ranges away"
            )


def _check_outputs(flat: tf_keras.Model, golden: Batch) -> None:
    """Refuse a model whose outputs do not depend on its inputs. Raises ModelError.

    The first few examples settle that for nearly every model; more are asked where those have one answer.
    """
    count, constant = len(golden[0]), set(flat.output_names)
    firsts: dict[str, np.ndarray] = {}
    for start in range(0, count, CHECKED_EXAMPLES):
        batch = tuple(array[start : start + CHECKED_EXAMPLES] for array in golden)
        answers = tf.nest.flatten(flat(as_model_takes(batch), training=False))
        for name, values in zip(flat.output_names, map(np.asarray, answers), strict=True):
            if not np.all(values == firsts.setdefault(name, values[:1])):
                constant.discard(name)
        if not constant:
            return
    for name in flat.output_names if count > 1 else ():
        if name in constant:
            raise ModelError(
                f"{flat.name}: the output {layer_name(name)!r} is the same for the first {count} "
                "calibration examples; is the model trained, and are the examples different and scaled as in training?"
            )
