"""What the first convolution over blocks of columns gains in U8S8 files (export/onnx_passes/columns_as_channels.py).

    python -m benchmarks.first_convolution [--launches N] [--hide vnni|avx512]

Networks with random weights, calibrated on noise. Per network: the first kernel, the CPU time of the file over that of
the same file with the plain convolution (the same bits where VNNI is not hidden), and that of the float file over it;
one thread, benchmarks/side_by_side.py. `--hide`: see benchmarks/hidden_vnni.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tf_keras
from tf_keras import layers

from benchmarks import mlperf_tiny
from benchmarks.hidden_vnni import HIDDEN, build_mask, hidden
from benchmarks.networks import tiny
from benchmarks.ptq_best import Work, quantize
from benchmarks.side_by_side import ratios
from edgeship.core.progress import say
from edgeship.export import onnx_passes
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.onnx_passes.columns_as_channels import columns_as_channels
from edgeship.export.tflite.convert import convert_tflite
from edgeship.model.resnet import build_resnet
from edgeship.quantize.lowering.lower import lower

PLAIN, BLOCKS, FLOAT = "plain", "blocks of columns", "float"
HEAD = "| network | first kernel | time over the plain convolution | float over the plain convolution | ms |"


def mobilenet_224() -> tf_keras.Model:
    """The first four blocks of MobileNetV1, where it is wide."""
    x = inputs = layers.Input((224, 224, 3))
    x = layers.ReLU()(layers.Conv2D(32, 3, 2, padding="same")(x))
    for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2)):
        x = layers.ReLU()(layers.DepthwiseConv2D(3, stride, padding="same")(x))
        x = layers.ReLU()(layers.Conv2D(filters, 1)(x))
    return tf_keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def heart_beats() -> tf_keras.Model:
    """A small network over 256 numbers."""
    x = inputs = layers.Input((256, 1))
    for filters, width in ((16, 9), (32, 5), (32, 3)):
        x = layers.ReLU()(layers.Conv1D(filters, width, 2, padding="same")(x))
    return tf_keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


NETWORKS: dict[str, Callable[[], Any]] = {
    "ResNet-34, 224x224x3": lambda: build_resnet(input_shape=(224, 224, 3), classes=10, width=64),
    "ResNet-34, 28x28x1": lambda: build_resnet(input_shape=(28, 28, 1), classes=10, width=64),
    "ResNet-34 of width 16, 32x32x1": lambda: build_resnet(input_shape=(32, 32, 1), classes=10, width=16),
    "MobileNetV1, four blocks, 224x224x3": mobilenet_224,
    "MobileNetV1 0.25, 96x96x3 (MLPerf Tiny)": tiny.mobilenet,
    "ResNet-8, 32x32x3 (MLPerf Tiny)": tiny.resnet8,
    "heart beats, 256x1": heart_beats,
}


def main() -> None:
    """Time every network, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=12, help="6 at the least")
    parser.add_argument("--hide", choices=[name for name in HIDDEN if name], default="")
    options = parser.parse_args()
    words = f"; hidden: {HIDDEN[options.hide]}" if options.hide else ""
    print(mlperf_tiny.opening(HEAD, words), flush=True)
    with tempfile.TemporaryDirectory() as folder, hidden(
        options.hide, build_mask(Path(folder)) if options.hide else None
    ):
        for name, build in NETWORKS.items():
            say(name)
            tf_keras.utils.set_random_seed(0)
            print(row_of(name, build(), launches=options.launches), flush=True)


def row_of(name: str, model: tf_keras.Model, *, launches: int) -> str:
    """Return the line of a network."""
    noise = np.random.default_rng(0).random((20, *model.input_shape[1:]), np.float32)
    flat = lower(model)
    work = Work(name=name, model=model, calibration=noise, tests=noise, input_range=(0.0, 1.0))
    tflite = convert_tflite(quantize(flat, work, "min-max")[0].model, scheme="int8-ptq")
    passes = tuple(item for item in onnx_passes.VARIANTS["u8s8"] if item is not columns_as_channels)
    with mock.patch.dict(onnx_passes.VARIANTS, {"u8s8": passes}):
        plain = convert_onnx(tflite, variant="u8s8")
    files = {
        PLAIN: plain, BLOCKS: convert_onnx(tflite, variant="u8s8"),
        FLOAT: convert_onnx(convert_tflite(flat), variant=None),
    }
    found = ratios(files, format="onnx", example=noise[:1], launches=launches)
    first = next(layer for layer in flat.layers if hasattr(layer, "strides"))
    kernel = f"{'x'.join(map(str, first.kernel_size))}, stride {first.strides[-1]}"
    return f"| {name} | {kernel} | {found[BLOCKS]} | {found[FLOAT]} | {found[BLOCKS].milliseconds:.4f} |"


if __name__ == "__main__":
    main()
