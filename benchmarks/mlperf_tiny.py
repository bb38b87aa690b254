"""Models of MLPerf Tiny through edgeship as they are, beside the benchmark's own int8 files, as a Markdown table.

    python -m benchmarks.mlperf_tiny --models DIR [--out FILE] [--seconds 60] [NAME ...]

DIR has files of github.com/mlcommons/tiny under their own names; a model that is not there has no row. Each model is
quantized without training (`edgeship.quantize_model`, 300 calibration inputs), and all files of a model answer the same
1,000 test inputs; which ones is in the table (benchmarks/mlperf_inputs.py). The benchmark calibrated its files on data
of its own; "the converter's" is the TFLite converter's post-training quantization with our calibration inputs. The
columns:

    integer operations    of a TFLite file those in the file, of an ONNX file those that ONNX Runtime executes
    same class    share of the test inputs with the float model's top-1
    SQNR          of the outputs, the float model's being the signal
    time          CPU time of an inference in LiteRT over that of the benchmark's own file, both in fresh processes that
                  take turns, with the bounds of `edgeship compare`
    ONNX beside TFLite    the outputs on the same inputs, and each layer on the same integers
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import edgeship
from benchmarks import mlperf_inputs
from benchmarks.cells import decibels
from edgeship.core.artifact import TensorSpec
from edgeship.core.errors import EdgeshipError
from edgeship.core.integers import dequantize, grid_steps, sqnr_db
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import say
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.model.build import load_model

CALIBRATION, TESTS, LAYER_INPUTS = 300, 1000, 32
CALIBRATION_SEED, TEST_SEED = 1, 2
HEAD = (
    "| model | file | bytes | integer operations | same class | SQNR, dB | time over the benchmark's file "
    "| ONNX beside TFLite |"
)
NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of the benchmark: its files, and inputs of its form."""

    model: str  # in DIR: a .h5 file, or the folder of a SavedModel
    own: str  # the benchmark's int8 file of it
    inputs: Callable[..., np.ndarray]  # (count, seed=...) -> float32
    about: str  # what these inputs are
    classifies: bool = True


def _pixels(count: int, *, size: int, largest: float, seed: int) -> np.ndarray:
    return mlperf_inputs.photographs(count, size=size, seed=seed) * np.float32(largest / 255)


PHOTOGRAPHS, SEEDED = "pieces of two photographs", "seeded noise of the right form"
ENTRIES = {
    "image classification": Entry(
        model="pretrainedResnet.h5", own="pretrainedResnet_quant.tflite", about=PHOTOGRAPHS,
        inputs=partial(_pixels, size=32, largest=255.0),
    ),
    "keyword spotting": Entry(
        model="kws_ref_model", own="kws_ref_model_int8.tflite", inputs=mlperf_inputs.keywords,
        about="cepstral coefficients of synthetic sounds",
    ),
    "visual wake words": Entry(
        model="vww_96.h5", own="vww_96_int8.tflite", about=PHOTOGRAPHS,
        inputs=partial(_pixels, size=96, largest=1.0),
    ),
    "anomaly detection": Entry(
        model="ad01.h5", own="model_ToyCar_quant_fullint_micro.tflite", about=SEEDED, classifies=False,
        inputs=partial(mlperf_inputs.noise, shape=(640,), low=-60.0, high=20.0),
    ),
    "streaming wake word": Entry(
        model="str_ww_ref_model.h5", own="strm_ww_int8.tflite", about=SEEDED,
        inputs=partial(mlperf_inputs.noise, shape=(30, 40), low=0.0, high=1.0),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file of a model, as cells of the table."""

    file: str
    size_bytes: int
    integer: str
    same_class: str
    sqnr: str
    time: str = ""
    beside: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEAD`, from its second column on."""
        return (
            self.file, f"{self.size_bytes:,}", self.integer, self.same_class, self.sqnr, self.time, self.beside
        )


def main() -> None:
    """Measure the models that are there, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(ENTRIES)}")
    parser.add_argument("--models", type=Path, required=True, help="a folder with files of the benchmark")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the timed part of each pair of files")
    options = parser.parse_args()
    chosen = options.names or [name for name, entry in ENTRIES.items() if (options.models / entry.model).exists()]
    if unknown := [name for name in chosen if name not in ENTRIES]:
        parser.error(f"expected models of {', '.join(ENTRIES)}; found {', '.join(unknown)}")
    if not chosen:
        files = ", ".join(entry.model for entry in ENTRIES.values())
        parser.error(f"{options.models}: expected one of {files}; found none of them")
    lines = opening(HEAD).splitlines()
    for name in chosen:
        lines += rows_of(name, options.models, seconds=options.seconds)
    table = "\n".join(lines) + "\n"
    print(table)
    if options.out:
        options.out.write_text(table)


def machine() -> str:
    """Return the processor and those of its instructions that decide how fast integers are."""
    from edgeship.validate.process.machine import describe_machine

    found = describe_machine()
    return f"CPU: {found['cpu_model']}; flags: {', '.join(found['cpu_flags'] or ()) or 'none of those that matter'}"


def opening(head: str, words: str = "") -> str:
    """Return what stands above the rows of a table: the machine with further words, the head and its rule."""
    return "\n".join([machine() + words, "", head, "|" + " --- |" * head.count(" |")])


def rows_of(name: str, folder: Path, *, seconds: float) -> list[str]:
    """Return the lines of one model: a row for each file, or one row that says why there are none."""
    entry = ENTRIES[name]
    say(name)
    try:
        rows = measure(entry, folder, seconds=seconds)
    except EdgeshipError as error:
        sentence = " ".join(str(error).split()).replace("|", "\\|")
        empty = " |" * (HEAD.count(" |") - 2)
        return [f"| {name} ({entry.model}) | {NOT_MEASURED}: {sentence} |{empty}"]
    label = f"{name} ({entry.model}; {entry.about})"
    return [
        f"| {label if index == 0 else ''} | {' | '.join(row.cells)} |" for index, row in enumerate(rows)
    ]


def measure(entry: Entry, folder: Path, *, seconds: float) -> list[Row]:
    """Return the rows of the benchmark's own file, where it is there, of the converter's and of edgeship's two.

    Raises:
        EdgeshipError: the model cannot be read, lowered or exported.
    """
    model, own = load_model(folder / entry.model), folder / entry.own
    calibration = entry.inputs(CALIBRATION, seed=CALIBRATION_SEED)
    asked = Asked(entry=entry, model=model, inputs=entry.inputs(TESTS, seed=TEST_SEED))
    with tempfile.TemporaryDirectory() as place:
        # The table shows the ONNX file that is right on every processor.
        quantized = edgeship.quantize_model(model, calibration)
        bundle = quantized.export(Path(place) / "bundle", onnx_variants=("u8u8",))
        ours, onnx = (bundle.path(f"int8-ptq.{form}") for form in ("tflite", "onnx"))
        converted = Path(place) / "converter.tflite"
        converted.write_bytes(converter_file(model, calibration))
        executed, layers = _onnx_in_runtime(bundle, asked.inputs)
        rows = [
            asked.row("the converter's TFLite", converted),
            asked.row("edgeship TFLite", ours, time=_ratio(own, ours, seconds=seconds)),
            asked.row("edgeship ONNX", onnx, integer=executed, beside=f"{asked.beside(ours, onnx)}; {layers}"),
        ]
    return [*([asked.row("the benchmark's own TFLite", own, time="1.00")] if own.is_file() else []), *rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """The test inputs of one model, and what its files answer."""

    entry: Entry
    model: Any
    inputs: np.ndarray
    found: dict[Path, tuple[np.ndarray, TensorSpec]] = field(default_factory=dict)

    @cached_property
    def floats(self) -> np.ndarray:
        """The float model's outputs."""
        found: np.ndarray = self.model.predict(self.inputs, batch_size=100, verbose=0)
        return found

    def steps(self, path: Path) -> tuple[np.ndarray, TensorSpec]:
        """Return the raw outputs of a file, and their scale and zero point; the file runs once, in a child process."""
        if path not in self.found:
            _, (spec,), (outputs,) = specs_and_outputs(
                path.read_bytes(), format=path.suffix[1:], inputs=(self.inputs,)
            )
            self.found[path] = outputs, spec
        return self.found[path]

    def row(self, file: str, path: Path, *, integer: str = "", time: str = "", beside: str = "") -> Row:
        """Return the row of a file; where `integer` is not given, the operations in the file are counted."""
        values = dequantize(*self.steps(path)).reshape(self.floats.shape)
        db = sqnr_db(self.floats, values)
        same = np.mean(values.argmax(-1) == self.floats.argmax(-1))
        if not integer:
            found = edgeship.inspect_file(path)
            integer = f"{found.integer_operations}/{found.integer_operations + found.float_operations}"
        return Row(
            file=file, size_bytes=path.stat().st_size, integer=integer, time=time, beside=beside,
            same_class=f"{same:.1%}" if self.entry.classifies else "no classes",
            sqnr=decibels(db),
        )

    def beside(self, tflite: Path, onnx: Path) -> str:
        """Return how far the outputs of two files on one grid are apart, in words."""
        one, other = (grid_steps(*self.steps(path)) for path in (tflite, onnx))
        apart = np.abs(one - other.reshape(one.shape))
        same = np.mean(one.argmax(-1) == other.reshape(one.shape).argmax(-1))
        classes = f", same class {same:.1%}" if self.entry.classifies else ""
        return f"outputs at most {apart.max()} LSB ({np.mean(apart > 0):.2%} differ){classes}"


def _onnx_in_runtime(bundle: edgeship.Bundle, inputs: np.ndarray) -> tuple[str, str]:
    """Return what ONNX Runtime executes in integers, and how far the layers of the ONNX file are from LiteRT's."""
    report = bundle.validate(
        inputs[:LAYER_INPUTS], runtimes=("litert", "onnxruntime"), latency_launches=1, latency_runs=1
    )
    coverage = next(row.coverage for row in report.rows if row.artifact == "int8-ptq.onnx")
    (grid,) = report.measured.grids
    executed = NOT_MEASURED if coverage is None else f"{coverage.integer}/{coverage.total}"
    return executed, (
        f"layers {NOT_MEASURED}" if grid.layer_max_lsb is None
        else f"{grid.layers_compared} of {grid.layers_total} layers at most {grid.layer_max_lsb} LSB"
    )


def _ratio(own: Path, ours: Path, *, seconds: float) -> str:
    """Return the time of our file over that of the benchmark's, with its bounds and the number of launches."""
    if not own.is_file():
        return f"{NOT_MEASURED}: no {own.name}"
    (check,) = edgeship.compare_files(own, ours, exact=False, max_seconds=seconds, runtimes=("litert",)).checks
    timing = check.timing
    if timing is None or timing.ratio is None:
        return f"{NOT_MEASURED}: {'; '.join(check.reasons)}"
    low, high = ("?" if bound is None else f"{bound:.2f}" for bound in (timing.ratio_low, timing.ratio_high))
    return f"{timing.ratio:.2f} [{low}, {high}], {timing.launches} launches"


def converter_file(model: Any, calibration: np.ndarray, *, per_channel: bool = True) -> bytes:
    """Return the int8 file of the TFLite converter's own post-training quantization."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([example[None]] for example in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel = not per_channel
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel
    with quiet_native_output():
        content: bytes = converter.convert()
    return content


if __name__ == "__main__":
    main()
