"""A Keras model with int8 ranges: made from a float model and calibration data, trained if the user likes, exported."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.api.bundle import Bundle, load_bundle, metric_named
from edgeship.api.options import section, several
from edgeship.api.progress import Progress, showing
from edgeship.core.config import Config, ExportConfig, QuantizeConfig
from edgeship.core.errors import ConfigError, ModelError
from edgeship.core.files import sha256_of_json
from edgeship.core.layer_names import layer_name
from edgeship.core.output_forms import AUTO, LOGITS, resolve
from edgeship.core.output_forms import PROBABILITIES as PROBABILITIES_FORM
from edgeship.core.progress import say
from edgeship.core.variants import DEFAULT_VARIANTS, PORTABLE
from edgeship.data.arrays import GivenBatch, Port, given_batches
from edgeship.data.examples import Batch, examples_of_arrays, examples_sha256
from edgeship.export.bundle import Source, require_free, write_bundle
from edgeship.export.files import export_files
from edgeship.export.meanings import PROBABILITIES, YES_OR_NO, meanings_of
from edgeship.export.proof.exported import Exported
from edgeship.export.proof.golden import float_outputs
from edgeship.export.samples import Samples, noise_between
from edgeship.model.build import check_weights, load_model, weights_sha256
from edgeship.model.compile_check import refuse_keras3_arguments, refuse_saving_whole
from edgeship.model.keras_code import FOR_PYTHON
from edgeship.model.prepared import Prepared
from edgeship.quantize import best
from edgeship.quantize.insert import Account, insert_fake_quantization, weighted_layers
from edgeship.quantize.insert import QuantizedModel as FakeQuantized
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.output_form import SoftmaxSeen, check_form, float_form, for_files, for_training, softmax_outputs
from edgeship.quantize.prepare import calibrate, finish

GOLDEN_EXAMPLES = 32
PTQ, PTQ_BEST, QAT, FLOAT = "int8-ptq", "int8-ptq-best", "int8-qat", "float32"
BEST = "best"  # the method that tries all others
# What a bundle's answers are scored with where the user names no metric: only where the last layer leaves no doubt.
METRICS_BY_MEANING = {PROBABILITIES: "top1", YES_OR_NO: "binary_accuracy"}


class QuantizedModel:
    """A model whose weights and activations are rounded to int8 as the exported files will round them.

    Attributes:
        keras: the network as an ordinary `tf_keras.Model`, float32 in and out. Train it as you like (`compile` and
            `fit`, callbacks, your own GradientTape loop): its ranges follow until `freeze()`. Its structure must stay.
        account: which layers are int8, and which stay in float because you said so.
        output: what `export` gives behind a softmax where you do not say it: "probabilities", or "float-probabilities"
            where int8 ones would not tell the classes apart; None: the network does not end in a softmax.
    """

    def __init__(
        self, whole: FakeQuantized, golden: Batch, spans: Sequence[tuple[float, float]], digest: str, *,
        output: str | None,
    ) -> None:
        """Use `quantize_model`, which fills this in."""
        self.output = output
        self._whole, made = whole, for_training(whole, output or PROBABILITIES_FORM)
        self.keras: tf_keras.Model = made.model
        self._made, self._golden, self._spans, self._digest = made, golden, tuple(spans), digest
        self._structure = _structure(made.model)
        self._weights = _weights_digest(made.model)
        refuse_keras3_arguments(self.keras)
        refuse_saving_whole(self.keras)

    @property
    def account(self) -> Account:
        """What became of the weights and operations; `account.sentence` is one line for people."""
        return self._made.account

    @property
    def scheme(self) -> str:
        """"int8-ptq" ("int8-ptq-best" by the method "best"), or "int8-qat" once the weights have been trained."""
        if _weights_digest(self._made.model) != self._weights:
            return QAT
        return PTQ_BEST if self._made.notes else PTQ

    def __repr__(self) -> str:
        """Return the model's name, its scheme and its account."""
        return f"QuantizedModel({self.keras.name!r}, {self.scheme}: {self.account.sentence})"

    def freeze(self) -> None:
        """Let every range stay as it is from now on, and give every bias an integer that fits.

        Call it before the last part of a long training, so that weights settle on final ranges. Exporting freezes a
        model that is not frozen yet.
        """
        finish(self._made)
        # What a range does is Python state, which compiled training functions have read before.
        for function in ("train_function", "test_function", "predict_function"):
            setattr(self.keras, function, None)

    def convert(
        self, format: str = "tflite", *, scheme: str | None = None, output: str = AUTO, progress: Progress = False
    ) -> bytes:
        """Return one file, held against this model before it is returned.

        Args:
            format: "tflite" (int8 inputs and outputs), "onnx" (uint8 ones, the same grid) or "ort".
            scheme: "float32" for the float network; None: int8.
            output: as `export`.

        Raises:
            ConfigError: no such format, scheme or output.
            ExportError: a converter refused the network, or the file does not compute what this model computes.
            ModelError: the network's structure is not what it was, or a weight is NaN.
        """
        chosen = self.scheme if scheme is None else scheme
        if chosen not in (FLOAT, self.scheme):
            raise ConfigError(
                f"scheme: expected {FLOAT!r}, or {self.scheme!r}, which this model is; found {scheme!r}; other schemes "
                "come from a configuration (quantize.schemes)"
            )
        formats = ("onnx", "ort") if format == "ort" else (format,)
        with showing(progress):
            exported = self._export((chosen,), formats, labels=(), output=self._form(output))
        return next(file.content for file in exported.files if file.format == format)

    def export(
        self,
        folder: str | Path,
        *,
        formats: Sequence[str] = ("tflite", "onnx"),
        onnx_variants: Sequence[str] = DEFAULT_VARIANTS,
        tflite_io: Sequence[str] = ("int8",),
        labels: Sequence[str] = (),
        metric: str | None = None,
        output: str = AUTO,
        progress: Progress = False,
    ) -> Bundle:
        """Write a bundle: int8 and float32 files, the float model, golden answers and a manifest; return it.

        Args:
            folder: a new or empty one, or an earlier bundle, which is replaced whole, or left as it was where something
                fails.
            formats: of "tflite", "onnx" and "ort".
            onnx_variants: of "u8u8" (exact on every processor), "u8s8" (for x86 with VNNI) and "s8s8" (for plain NEON).
            tflite_io: of "int8" and "float32": what int8 TFLite files take and give (browsers take float32 alone).
            labels: of a classifier, the classes' names, which travel inside the files.
            metric: how answers are scored by `validate` (edgeship/core/metrics.py); None: "top1" behind a softmax,
                "binary_accuracy" behind a sigmoid, otherwise none.
            output: what the files give behind a softmax: "probabilities" (int8, steps of 1/256), "logits" (int8, the
                softmax is left out) or "float-probabilities" (the softmax alone in float); "auto": what `output` says.

        Raises:
            ConfigError, ExportError, ModelError: as `convert`.
            StorageError: the folder has other things in it, or cannot be written.
        """
        where, form = Path(folder), self._form(output)
        require_free(where)
        metric_named(metric)
        labels = self._checked_labels(labels)
        with showing(progress):
            exported = self._export(
                (FLOAT, self.scheme), several(formats), labels=labels, onnx_variants=several(onnx_variants),
                tflite_io=several(tflite_io), output=form,
            )
            flat = float_form(self._whole.flat, form or PROBABILITIES_FORM)
            golden = examples_of_arrays(exported.golden_inputs)
            source = Source(
                config_sha256=sha256_of_json({"account": self.account.sentence, "formats": several(formats)}),
                weights_sha256=weights_sha256(flat), data={},
                splits={"golden": {"images": len(golden), "sha256": self._digest}}, preprocessing=None,
                labels=labels, metric=self._metric(metric),
                float_outputs=float_outputs(flat, golden, label="float Keras on the golden examples"), output=form,
            )
            write_bundle(where, exported, model=flat, source=source)
        return load_bundle(where)

    def _export(
        self, schemes: tuple[str, ...], formats: tuple[str, ...], *, labels: tuple[str, ...],
        onnx_variants: tuple[str, ...] = (PORTABLE,), tflite_io: tuple[str, ...] = ("int8",), output: str | None,
    ) -> Exported:
        config = Config(
            quantize=QuantizeConfig(schemes=schemes, **self._made.codes),
            export=ExportConfig(formats=formats, onnx_variants=onnx_variants, tflite_io=tflite_io),
        )
        self._check()
        self.freeze()
        form, whole = output or PROBABILITIES_FORM, self._whole.flat
        flat, weighted = float_form(whole, form), set(weighted_layers(whole))
        kernels = tuple(layer.name for layer in flat.layers if layer.name in weighted)
        prepared = [
            Prepared(scheme=FLOAT, model=flat, expected=kernels) if scheme == FLOAT
            else for_files(self._whole, form).prepared(scheme)
            for scheme in schemes
        ]
        samples = Samples(
            calibration=lambda: iter([self._golden]), golden=self._golden,
            noise=tuple(map(noise_between, self._golden, self._spans)),
        )
        meanings = meanings_of(whole, without_softmax=softmax_outputs(whole) if form == LOGITS else ())
        return export_files(prepared, samples=samples, config=config, labels=labels, meanings=meanings)

    def _form(self, asked: str) -> str | None:
        """Return the form of the output that was asked for. Raises ConfigError."""
        chosen = ExportConfig(output=asked).output
        check_form(chosen, self._whole.flat)
        return self.output if chosen == AUTO or self.output is None else chosen

    def _metric(self, name: str | None) -> str | None:
        meanings = meanings_of(self._made.flat)
        if name is not None or len(meanings) != 1:
            return name
        return METRICS_BY_MEANING.get(meanings[0]) if len(self._made.flat.output_shape) == 2 else None

    def _checked_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the classes' names. Raises ConfigError where there are more or fewer classes, or none."""
        names, shape = several(labels), self._made.flat.output_shape
        if names and (not isinstance(shape, tuple) or len(shape) != 2 or shape[1] != len(names)):
            raise ConfigError(
                f"labels: expected one name for each class of the output {shape}, found {len(names)}; give all of "
                "them, or none where the model is no classifier"
            )
        return names

    def _check(self) -> None:
        """Refuse a network that is no longer the one that was quantized. Raises ModelError."""
        if self.keras is not self._made.model or _structure(self.keras) != self._structure:
            raise ModelError(
                f"{self._made.model.name}: the network is not the one that quantize_model made (another model, or "
                "layers that were added or taken away); train `quantized.keras` itself, or quantize the new model"
            )
        check_weights(self.keras)


def quantize_model(
    model: Any,
    calibration: Any,
    *,
    input_ranges: Sequence[tuple[float, float]] | None = None,
    method: str = "min-max",
    keep_float: Sequence[str] = (),
    weight_bits: int = 8,
    weight_range: str = "full",
    ema_decay: float = 0.99,
    progress: Progress = False,
) -> QuantizedModel:
    """Give a float model int8 weights and activations, with ranges from calibration data.

    Args:
        model: any built Keras model (Keras 2 or Keras 3), with layers of your own; it is left as it was. Or the path of
            a saved one: `.keras`, `.h5`, or a SavedModel folder that tf_keras wrote; code in a file is not run.
        calibration: inputs as the model takes them, without labels: an array, a list or dict of arrays (several
            inputs), a `tf.data.Dataset` of batches, or any iterable of batches. 100 to 500 examples are usual.
        input_ranges: the smallest and largest value of each input, where they are known (pixels from 0 to 1); None:
            those of the calibration data.
        method: how ranges are chosen: "min-max", "percentile" or "mse"; "best" tries these, equalization, bias
            correction and rounding by the layers' answers, and keeps what helps on a quarter of the examples that it
            sets apart (the examples are held in memory, and the ranges stay in a training that follows).
        keep_float: names of layers that stay in float.
        weight_bits: 8, or 7 for processors whose uint8 x int8 products saturate.
        weight_range: "full", or "pair-safe": 8 bits whose products cannot saturate on these processors.
        ema_decay: of the ranges' moving average, per training step.
        progress: True writes lines to standard error; a function gets them.

    Returns:
        The quantized model: export it as it is (post-training quantization), or train its `.keras` first.

    Raises:
        LoweringError: a layer that cannot be opened or that integers cannot compute; the message names it.
        DataError: calibration data that are empty, of another shape or type, or have NaN.
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
        "weight_bits": weight_bits, "weight_range": weight_range, "ema_decay": ema_decay,
        "calibration": "min-max" if searches else method,
    }
    config: QuantizeConfig = section(QuantizeConfig, "quantize", options)
    with showing(progress):
        flat = lower_model(model)
        check_weights(flat)
        ports = ports_of(flat)
        spans = _known_spans(input_ranges, ports)
        made = insert_fake_quantization(
            flat, input_ranges=spans, ema_decay=config.ema_decay, weight_bits=config.weight_bits,
            weight_range=config.weight_range, keep_float=several(keep_float),
        )
        seen = _Seen(given_batches(calibration, ports, who="calibration"))
        first = next(seen)
        made.check_in_float([array[:8] for array in first], on="calibration data")
        softmax = SoftmaxSeen(flat)
        batches = (softmax.passed(_as_given(batch)) for batch in itertools.chain([first], seen))
        if searches:
            made = dataclasses.replace(made, notes=best.found(made, *best.parts(list(batches))))
        else:
            calibrate(made, batches, method=config.calibration)
        _check_outputs(made, seen.golden)
        output = resolve(AUTO, softmax.facts) if softmax.facts else None
        if output is not None:
            say(f"output: {output}: " + "; ".join(item.sentence for item in softmax.facts))
    return QuantizedModel(
        made, seen.golden, [known or span for known, span in zip(spans, seen.spans, strict=True)],
        examples_sha256(examples_of_arrays(seen.golden)), output=output,
    )


def lower_model(model: Any) -> tf_keras.Model:
    """Return the same float network as a flat functional tf_keras model of standard layers, with weights of its own.

    Args:
        model: any built Keras model (Keras 2 or Keras 3), with layers of your own, which is left as it was; or the path
            of a saved one, as `quantize_model` takes it.

    Raises:
        LoweringError: a layer that cannot be opened; the message names the layer and the operation.
        ModelError: no such file, one that is damaged or has code in it, or a class that is not registered.
    """
    if isinstance(model, str | os.PathLike):
        model = load_model(Path(model), remedies=FOR_PYTHON)
    flat: tf_keras.Model = lower(model)
    return flat


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


def _as_given(batch: Batch) -> Any:
    return batch[0] if len(batch) == 1 else list(batch)


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


def _check_outputs(made: FakeQuantized, golden: Batch) -> None:
    """Refuse a model whose outputs do not depend on its inputs. Raises ModelError."""
    outputs = float_outputs(made.flat, examples_of_arrays(golden), label="float Keras on the golden examples")
    for name, values in zip(made.flat.output_names, outputs, strict=True):
        if len(values) > 1 and np.all(values == values[:1]):
            raise ModelError(
                f"{made.flat.name}: the output {layer_name(name)!r} is the same for the first {len(values)} "
                "calibration examples; is the model trained, and are the examples different and scaled as in training?"
            )


def _structure(model: tf_keras.Model) -> list[tuple[str, list[tuple[int, ...]]]]:
    return [(layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers]


def _weights_digest(model: tf_keras.Model) -> str:
    """A hash of all kernels and biases, ranges aside."""
    digest = hashlib.sha256()
    for weight in model.trainable_weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
