"""The ONNX files of a network on x86 with VNNI, without VNNI and without AVX-512, all on one machine that has them.

    python -m benchmarks.hidden_vnni digits --model runs/digits/float.keras   ResNet-34, width 16 (after `edgeship run`)
    python -m benchmarks.hidden_vnni untrained                                ResNet-34, full width, 224x224x3
    python -m benchmarks.hidden_vnni mlperf --models DIR                      MLPerf Tiny's models that are in DIR

benchmarks/hide_vnni.c takes the instructions out of what CPUID tells, and ONNX Runtime chooses its kernels accordingly;
they run at this processor's speed. For a processor that cannot do so (no "cpuid_fault" in /proc/cpuinfo), for one that
has no VNNI, and without gcc, the command ends with a sentence.

Per processor and file: the test answers that differ from those of the same file with nothing hidden, the signal to
noise against the float model, and the CPU time over that of `quantize_static`'s U8S8 file (benchmarks/side_by_side.py).
The answers of the untrained network say little: they hardly depend on the picture.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import mlperf_tiny
from benchmarks.cells import decibels
from benchmarks.peer_files import ort_files
from benchmarks.ptq_best import Work, digits, mlperf, quantize
from benchmarks.side_by_side import ratios
from edgeship.core.config import FULL, PAIR_SAFE
from edgeship.core.cpu import cpu_flags
from edgeship.core.errors import RefusedError
from edgeship.core.integers import dequantize, sqnr_db
from edgeship.core.progress import say
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.export.tflite.convert import convert_tflite
from edgeship.quantize.lowering.lower import lower
from edgeship.validate.targets.emulator import compile_library

HIDDEN = {"": "nothing", "vnni": "VNNI", "avx512": "VNNI, AVX-512"}
PEER = "ort u8s8 min-max"
HEAD = "| network | hidden | file | answers that differ | SQNR, dB | time over ort u8s8 | ms |"
BATCH = 50


def main() -> None:
    """Make the files, ask and time them under each mask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("digits", "untrained", "mlperf"))
    parser.add_argument("--model", type=Path, help="of digits: the float model that `edgeship run` left")
    parser.add_argument("--models", type=Path, help="of mlperf: a folder with files of the benchmark")
    parser.add_argument("--launches", type=int, default=20, help="per mask, 6 at the least")
    options = parser.parse_args()
    if {"digits": options.model, "mlperf": options.models}.get(options.what, True) is None:
        parser.error(f"{options.what}: expected {'--model' if options.what == 'digits' else '--models'}")
    makers: dict[str, Callable[[], Iterator[Work]]] = {
        "digits": lambda: digits(options.model), "untrained": untrained,
        "mlperf": lambda: mlperf(options.models, list(mlperf_tiny.ENTRIES)),
    }
    with tempfile.TemporaryDirectory() as folder:
        library = build_mask(Path(folder))
        print(mlperf_tiny.opening(HEAD), flush=True)
        for work in makers[options.what]():
            for line in rows_of(work, library, launches=options.launches):
                print(line, flush=True)


def build_mask(folder: Path) -> Path:
    """Compile hide_vnni.c into a folder; end the command with a sentence where nothing can be hidden."""
    flags = cpu_flags() or frozenset()
    if "cpuid_fault" not in flags or not flags & {"avx_vnni", "avx512_vnni"}:
        raise SystemExit("expected a processor with VNNI and cpuid_fault in /proc/cpuinfo: nothing can be hidden here")
    try:
        return compile_library(Path(__file__).with_name("hide_vnni.c"), folder / "hide_vnni.so")
    except RefusedError as error:
        raise SystemExit(str(error)) from error


def untrained() -> Iterator[Work]:
    """Yield the network of `benchmarks.peers latency`: random weights, and noise to calibrate on."""
    import tf_keras

    from edgeship.model.resnet import build_resnet

    tf_keras.utils.set_random_seed(0)
    noise = np.random.default_rng(0).random((20, 224, 224, 3), np.float32)
    yield Work(
        name="ResNet-34, 224x224x3", model=build_resnet(input_shape=(224, 224, 3), classes=10, width=64),
        calibration=noise[:10], tests=noise[10:], input_range=(0.0, 1.0),
    )


def files_of(work: Work) -> dict[str, bytes]:
    """Return the files by name, the peer's first."""
    flat = lower(work.model)
    float_onnx = convert_onnx(convert_tflite(flat), variant=None)
    theirs = {name: content for name, _, content in ort_files(float_onnx, work.calibration, ways=("min-max",))}
    files = {name: theirs[name] for name in (PEER, "ort u8u8 min-max")}
    for weights in (FULL, PAIR_SAFE):
        say(f"{work.name}: edgeship, {weights}")
        tflite = convert_tflite(quantize(flat, work, "min-max", weight_range=weights)[0].model, scheme="int8-ptq")
        label = "" if weights == FULL else f", {weights}"
        files |= {
            f"edgeship {variant}{label}": convert_onnx(tflite, variant=variant) for variant in ("u8u8", "u8s8")
        }
    return {**files, "float": float_onnx}


def rows_of(work: Work, library: Path, *, launches: int) -> Iterator[str]:
    """Yield the lines of a network."""
    files = files_of(work)
    wanted = work.model.predict(work.tests, batch_size=BATCH, verbose=0)
    exact: dict[str, np.ndarray] = {}
    for mask, words in HIDDEN.items():
        say(f"{work.name}: {len(files)} files, hidden: {words}")
        with hidden(mask, library):
            found = ratios(files, format="onnx", example=work.tests[:1], launches=launches)
            for name, content in files.items():
                _, (spec,), (outputs,) = specs_and_outputs(content, format="onnx", inputs=(work.tests,))
                exact.setdefault(name, outputs)
                differ = int((outputs != exact[name]).reshape(len(outputs), -1).any(axis=1).sum())
                db = sqnr_db(wanted, dequantize(outputs, spec).reshape(wanted.shape))
                yield (
                    f"| {work.name} | {words} | {name} | {differ} of {len(outputs)} | {decibels(db)} | {found[name]} "
                    f"| {found[name].milliseconds:.4f} |"
                )


@contextmanager
def hidden(mask: str, library: Path | None) -> Iterator[None]:
    """Within, new child processes do not see the instructions of a mask; the empty one hides nothing."""
    with mock.patch.dict(os.environ, {"HIDE": mask, "LD_PRELOAD": str(library)} if mask else {}):
        yield


if __name__ == "__main__":
    main()
