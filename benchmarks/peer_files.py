"""int8 files of every route after training, of one float model and the same calibration inputs, as a Markdown table.

    python -m benchmarks.peer_files mlperf --models DIR [--names NAME...]    MLPerf Tiny's models that are in DIR
    python -m benchmarks.peer_files digits --model runs/digits/float.keras   ResNet-34, width 16 (after `edgeship run`)
    python -m benchmarks.peer_files depthwise                                a depthwise network on Fashion-MNIST
    python -m benchmarks.peers models PATH...                                Keras models of your own

Per file: its bytes, the signal to noise of its outputs against the float model's and the share of test inputs with its
top-1, in LiteRT or ONNX Runtime with their default options. `--times LAUNCHES` adds its CPU time over that of
edgeship's best file of the same runtime (U8S8 where the processor has VNNI, else U8U8; benchmarks/side_by_side.py).

`--weight-scales per-tensor` lets all of them have one scale per kernel (litert-quantizer: TENSORWISE).

    float                     the float32 file
    edgeship min-max, best    int8-ptq and int8-ptq-best; of ONNX "best" is U8U8, and "best u8s8" the same integers
    the benchmark's own       MLPerf Tiny's int8 file
    converter                 TFLiteConverter's post-training quantization
    plain tf2onnx             the converter's file through tf2onnx, nothing else
    litert-quantizer          its static int8 recipe with its default calibration (`pip install litert-quantizer`)
    ort u8u8, u8s8            onnxruntime.quantization.quantize_static (QDQ, per channel), three calibrations; U8S8
                              saturates on x86 with AVX2 and no VNNI, and is measured as it runs here
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import io
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks import mlperf_tiny
from benchmarks.cells import decibels
from benchmarks.ptq_best import Work, depthwise, digits, mlperf, quantize
from benchmarks.side_by_side import Ratio, ratios
from edgeship.core.config import PER_CHANNEL, PER_TENSOR
from edgeship.core.errors import EdgeshipError, in_one_line
from edgeship.core.integers import dequantize, sqnr_db
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import say
from edgeship.core.variants import PORTABLE, processor_of, variants_on
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.export.tflite.convert import convert_tflite
from edgeship.quantize.lowering.lower import lower
from edgeship.validate.process.machine import describe_machine

HEAD = "| network | file | format | bytes | SQNR, dB | agreement |"
MIN_MAX, BEST = "edgeship min-max", "edgeship best"
TIME_HEAD = " time over edgeship's best | ms |"
LITERT_QUANTIZER = "litert_quantizer"
OPSET = 17  # of the files of tf2onnx alone
ORT_CALIBRATIONS = {"min-max": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
File = tuple[str, str, bytes]  # whose, format, content


def main() -> None:
    """Make every file of every network, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("mlperf", "digits", "depthwise"))
    parser.add_argument("--model", type=Path, help="of digits: the float model that `edgeship run` left")
    parser.add_argument("--models", type=Path, help="of mlperf: a folder with files of the benchmark")
    parser.add_argument("--names", nargs="+", default=list(mlperf_tiny.ENTRIES), help="of mlperf: which models")
    parser.add_argument("--times", type=int, metavar="LAUNCHES", help="launches per runtime, 6 at the least")
    parser.add_argument("--weight-scales", choices=(PER_CHANNEL, PER_TENSOR), default=PER_CHANNEL)
    options = parser.parse_args()
    if {"digits": options.model, "mlperf": options.models}.get(options.what, True) is None:
        parser.error(f"{options.what}: expected {'--model' if options.what == 'digits' else '--models'}")
    makers: dict[str, Callable[[], Iterator[Work]]] = {
        "digits": lambda: digits(options.model), "mlperf": lambda: mlperf(options.models, options.names),
        "depthwise": depthwise,
    }
    works = (dataclasses.replace(work, weight_scales=options.weight_scales) for work in makers[options.what]())
    print_table(works, launches=options.times, models=options.models)


def print_table(works: Iterable[Work], *, launches: int | None, models: Path | None = None) -> None:
    """Make every file of every network, and print a line for each; where edgeship refuses a network, its reason.

    Args:
        launches: per runtime, for the times; None: no times.
        models: a folder with MLPerf Tiny's own files.
    """
    print(mlperf_tiny.opening(HEAD + (TIME_HEAD if launches else "")), flush=True)
    for work in works:
        try:
            files = list(files_of(work, models))
        except EdgeshipError as error:
            print(f"| {work.name} | refused: {in_one_line(error)} |" + " |" * (HEAD.count(" |") - 2), flush=True)
            continue
        wanted = work.model.predict(work.tests, batch_size=100, verbose=0)
        times = times_of(work, files, launches=launches) if launches else {}
        for name, format, content in files:
            print(row_of(work, wanted, name, format, content) + times.get((name, format), ""), flush=True)


def times_of(work: Work, files: list[File], *, launches: int) -> dict[tuple[str, str], str]:
    """Return the cells of each file's time, by its name and format."""
    found = ratios_of(work, files, launches=launches)
    return {key: f" {ratio} | {ratio.milliseconds:.4f} |" for key, ratio in found.items()}


def ratios_of(work: Work, files: list[File], *, launches: int) -> dict[tuple[str, str], Ratio]:
    """Return the time of each file over that of edgeship's best in the same runtime, by its name and format."""
    found = {}
    for format, base in (("tflite", BEST), ("onnx", best_onnx())):
        contents = {name: content for name, form, content in files if form == format}
        say(f"{work.name}: {len(contents)} {format} files side by side")
        measured = ratios({base: contents[base], **contents}, format=format, example=work.tests[:1], launches=launches)
        found |= {(name, format): ratio for name, ratio in measured.items()}
    return found


def best_onnx() -> str:
    """Return the name of edgeship's best ONNX file in the variant for this processor."""
    processor = processor_of(platform.machine(), describe_machine()["cpu_flags"])
    variant = PORTABLE if processor is None else variants_on(processor)[0]
    return BEST if variant == PORTABLE else f"{BEST} {variant}"


def files_of(work: Work, models: Path | None) -> Iterator[File]:
    """Yield the files of every route; a peer that is not installed has none, and that is said."""
    flat, per_channel = lower(work.model), work.weight_scales == PER_CHANNEL
    float_tflite = convert_tflite(flat)
    float_onnx = convert_onnx(float_tflite, variant=None)
    yield "float", "tflite", float_tflite
    yield "float", "onnx", float_onnx
    for name in (MIN_MAX, BEST):
        say(f"{work.name}: {name}")
        tflite = convert_tflite(quantize(flat, work, name.split()[-1])[0].model, scheme="int8-ptq")
        yield name, "tflite", tflite
        yield name, "onnx", convert_onnx(tflite, variant=PORTABLE)
        if name == BEST:
            yield f"{name} u8s8", "onnx", convert_onnx(tflite, variant="u8s8")
    if models is not None and (own := models / mlperf_tiny.ENTRIES[work.name].own).is_file():
        yield "the benchmark's own", "tflite", own.read_bytes()
    for converted in _tried("converter", "tflite", lambda: mlperf_tiny.converter_file(
        work.model, work.calibration, per_channel=per_channel
    )):
        yield converted
        yield from _tried("plain tf2onnx", "onnx", functools.partial(plain_tf2onnx, converted[-1]))
    if importlib.util.find_spec(LITERT_QUANTIZER) is None:
        say(f"{LITERT_QUANTIZER} is not installed: no row of it")
    else:
        made = functools.partial(litert_quantizer_file, float_tflite, work.calibration, per_channel=per_channel)
        yield from _tried("litert-quantizer", "tflite", made)
    yield from ort_files(float_onnx, work.calibration, per_channel=per_channel)


def _tried(name: str, format: str, make: Callable[[], bytes]) -> Iterator[File]:
    """Yield a peer's file; where there is none, say why."""
    try:
        content = make()
    except Exception as error:  # noqa: BLE001 - of other tools, which raise what they like
        say(f"peer: {name}: no file ({in_one_line(error)})")
    else:
        yield name, format, content


def plain_tf2onnx(tflite: bytes) -> bytes:
    """Return what tf2onnx alone makes of a TFLite file."""
    say("peer: plain tf2onnx")
    with quiet_native_output(), tempfile.TemporaryDirectory() as folder:
        import tf2onnx

        path = Path(folder) / "int8.tflite"
        path.write_bytes(tflite)
        made, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    content: bytes = made.SerializeToString()
    return content


def litert_quantizer_file(float_tflite: bytes, calibration: np.ndarray, *, per_channel: bool = True) -> bytes:
    """Quantize a float TFLite file by the static int8 recipe."""
    from litert_quantizer import qtyping, quantizer, recipe

    say("peer: litert-quantizer")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.tflite", Path(folder) / "int8.tflite"
        source.write_bytes(float_tflite)
        (signature, name), = _signatures(float_tflite)
        with contextlib.redirect_stdout(io.StringIO()):  # the table is there
            wanted = recipe.static_wi8_ai8()
            if not per_channel:
                for entry in wanted:
                    entry["op_config"]["weight_tensor_config"]["granularity"] = qtyping.QuantGranularity.TENSORWISE
            made = quantizer.Quantizer(str(source), wanted)
            ranges = made.calibrate({signature: [{name: example[None]} for example in calibration]}, num_threads=1)
            made.quantize(ranges).export_model(str(target), overwrite=True)
        return target.read_bytes()


def _signatures(tflite: bytes) -> Iterator[tuple[str, str]]:
    from ai_edge_litert.interpreter import Interpreter

    for key, ends in Interpreter(model_content=tflite).get_signature_list().items():
        yield key, ends["inputs"][0]


def ort_files(
    float_onnx: bytes, calibration: np.ndarray, *, ways: Sequence[str] = tuple(ORT_CALIBRATIONS),
    per_channel: bool = True,
) -> Iterator[File]:
    """Yield ONNX Runtime's own static quantization of a float ONNX file, with each of these calibrations."""
    from onnxruntime import quantization

    name = onnxruntime.InferenceSession(float_onnx, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Yields the calibration inputs one by one."""

        def __init__(self) -> None:
            self.examples = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            example = next(self.examples, None)
            return None if example is None else {name: example[None]}

    def made(weights: Any, way: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(float_onnx)
            with contextlib.redirect_stdout(io.StringIO()):
                quantization.quantize_static(
                    source, target, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=quantization.QuantType.QUInt8, weight_type=weights,
                    calibrate_method=getattr(quantization.CalibrationMethod, ORT_CALIBRATIONS[way]),
                )
            return target.read_bytes()

    for variant, weights in (("u8u8", quantization.QuantType.QUInt8), ("u8s8", quantization.QuantType.QInt8)):
        for way in ways:
            say(f"peer: quantize_static {variant} {way}")
            yield from _tried(f"ort {variant} {way}", "onnx", functools.partial(made, weights, way))


def row_of(work: Work, wanted: np.ndarray, name: str, format: str, content: bytes) -> str:
    """Return the line of one file."""
    db, same = closeness(work, wanted, format, content)
    return f"| {work.name} | {name} | {format} | {len(content):,} | {decibels(db)} | {same:.2%} |"


def closeness(work: Work, wanted: np.ndarray, format: str, content: bytes) -> tuple[float | None, float]:
    """Return a file's signal to noise against the float outputs (None: exact), and the share of equal top-1."""
    _, (spec,), (outputs,) = specs_and_outputs(content, format=format, inputs=(work.tests,))
    answers = dequantize(outputs, spec).reshape(wanted.shape)
    return sqnr_db(wanted, answers), float(np.mean(answers.argmax(-1) == wanted.argmax(-1)))


if __name__ == "__main__":
    main()
