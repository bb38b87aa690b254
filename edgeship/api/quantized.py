"""A Keras model with int8 ranges: made from a float model and calibration data, trained if the user likes, exported."""

from __future__ import annotations

import edgeship.model  # noqa: F401 - the first import of TensorFlow, whose notices it holds back

# isort: split
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tf_keras

from edgeship.api.bundle import Bundle, load_bundle, metric_named
from edgeship.api.options import several
from edgeship.api.progress import Progress, showing
from edgeship.core.config import Config, ExportConfig, QuantizeConfig
from edgeship.core.errors import ConfigError, ModelError
from edgeship.core.files import sha256_of_json
from edgeship.core.output_forms import AUTO, LOGITS
from edgeship.core.output_forms import PROBABILITIES as PROBABILITIES_FORM
from edgeship.core.progress import stage
from edgeship.core.variants import DEFAULT_VARIANTS, PORTABLE
from edgeship.data.examples import Batch, examples_of_arrays
from edgeship.export.bundle import Source, require_free, write_bundle
from edgeship.export.files import export_files
from edgeship.export.meanings import PROBABILITIES, YES_OR_NO, meanings_of
from edgeship.export.proof.exported import Exported
from edgeship.export.proof.golden import float_outputs
from edgeship.export.samples import Samples, noise_between
from edgeship.model.build import check_weights, weights_sha256
from edgeship.model.compile_check import refuse_keras3_arguments, refuse_saving_whole
from edgeship.quantize.float_schemes import prepared_float
from edgeship.quantize.insert import Account
from edgeship.quantize.insert import QuantizedModel as FakeQuantized
from edgeship.quantize.output_form import check_form, float_form, for_files, for_training, softmax_outputs
from edgeship.quantize.prepare import finish

PTQ, PTQ_BEST, QAT, FLOAT = "int8-ptq", "int8-ptq-best", "int8-qat", "float32"
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
        with showing(progress), stage("convert", f"{chosen} as {format}"):
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
        with showing(progress), stage("export", f"{FLOAT}, {self.scheme} as {', '.join(several(formats))}"):
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
        floats = prepared_float(whole, form, [scheme for scheme in schemes if scheme == FLOAT])
        prepared = [
            floats[scheme] if scheme == FLOAT else for_files(self._whole, form).prepared(scheme) for scheme in schemes
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


def _structure(model: tf_keras.Model) -> list[tuple[str, list[tuple[int, ...]]]]:
    return [(layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers]


def _weights_digest(model: tf_keras.Model) -> str:
    """A hash of all kernels and biases, ranges aside."""
    digest = hashlib.sha256()
    for weight in model.trainable_weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
