"""What each step of int8-ptq-best gives and takes, on files in both runtimes, as Markdown tables.

    python -m benchmarks.ptq_best digits --model runs/digits/float.keras     ResNet-34, width 16 (after `edgeship run`)
    python -m benchmarks.ptq_best depthwise                                  a depthwise network on Fashion-MNIST
    python -m benchmarks.ptq_best mlperf --models DIR                        MLPerf Tiny's models that are in DIR
    python -m benchmarks.ptq_best spread                                     Dense units that differ 1000 times

`--weight-scales per-tensor`: one scale per kernel, for devices that know no other.
Per network two tables. The first has the trials: signal to noise at the logits on held-out calibration examples, and
the time of each step. The second has the files: signal to noise of the outputs and top-1 agreement, both against the
float model, on test examples that nothing was found on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tf_keras
from tf_keras import layers

from benchmarks import mlperf_tiny
from edgeship.core.config import FULL, PER_CHANNEL, PER_TENSOR, DataConfig
from edgeship.core.integers import dequantize, sqnr_db
from edgeship.core.progress import say
from edgeship.data.fashion_mnist import load_fashion_mnist
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.export.tflite.convert import convert_tflite
from edgeship.model.build import load_model
from edgeship.quantize.best import Best, find_best, parts, repeat
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish

CALIBRATION, TESTS, BATCH = 300, 1000, 32
WAYS = ("min-max", "percentile", "mse", "best")
EPOCHS, WIDTH, TRAINED_ON = 3, 8, 20_000  # of the depthwise network: minutes on two cores
SPREAD = 1000.0
FILES = "| network | way | format | bytes | SQNR, dB | agreement |"
TRIALS = "| network | steps | SQNR, dB | kept | seconds |"


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A float model, the inputs it is quantized on, and those it is judged on."""

    name: str
    model: tf_keras.Model
    calibration: np.ndarray
    tests: np.ndarray
    input_range: tuple[float, float] | None = None
    weight_scales: str = PER_CHANNEL


def main() -> None:
    """Quantize every network in every way, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("digits", "depthwise", "mlperf", "spread"))
    parser.add_argument("--model", type=Path, help="of digits: the float model that `edgeship run` left")
    parser.add_argument("--models", type=Path, help="of mlperf: a folder with files of the benchmark")
    parser.add_argument("--names", nargs="+", default=list(mlperf_tiny.ENTRIES), help="of mlperf: which models")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--weight-scales", choices=(PER_CHANNEL, PER_TENSOR), default=PER_CHANNEL)
    options = parser.parse_args()
    if {"digits": options.model, "mlperf": options.models}.get(options.what, True) is None:
        parser.error(f"{options.what}: expected {'--model' if options.what == 'digits' else '--models'}")
    makers: dict[str, Callable[[], Iterator[Work]]] = {
        "digits": partial(digits, options.model), "mlperf": partial(mlperf, options.models, options.names),
        "depthwise": depthwise, "spread": spread,
    }
    for made in makers[options.what]():
        work = dataclasses.replace(made, weight_scales=options.weight_scales)
        print("\n".join([mlperf_tiny.machine(), "", *tables(work, options.ways)]), flush=True)


def digits(path: Path) -> Iterator[Work]:
    """Yield the quickstart's network and data."""
    from edgeship.core.config_file import load_config
    from edgeship.data import load_splits, preprocess, preprocessing_of
    from edgeship.model import build

    config = load_config(Path("configs/digits.toml"))
    splits, spec = load_splits(config.data), preprocessing_of(config.data)
    yield Work(
        name="ResNet-34, digits", model=build.load_model(path), input_range=spec.input_range,
        calibration=preprocess(splits.calibration.images[:], spec), tests=preprocess(splits.test.images[:], spec),
    )


def mlperf(folder: Path, names: list[str]) -> Iterator[Work]:
    """Yield the models of MLPerf Tiny that are in a folder."""
    for name in names:
        entry = mlperf_tiny.ENTRIES[name]
        if (folder / entry.model).exists():
            yield Work(
                name=name, model=load_model(folder / entry.model),
                calibration=entry.inputs(CALIBRATION, seed=mlperf_tiny.CALIBRATION_SEED),
                tests=entry.inputs(TESTS, seed=mlperf_tiny.TEST_SEED),
            )


def depthwise() -> Iterator[Work]:
    """Yield a small network in the manner of MobileNetV1, trained on Fashion-MNIST."""
    images, labels, tests = _fashion_mnist()
    tf_keras.utils.set_random_seed(0)
    x = inputs = layers.Input((28, 28, 1))
    x = _normalized(layers.Conv2D(WIDTH, 3, 2, padding="same", use_bias=False)(x))
    for factor, stride in ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (8, 1), (16, 1)):
        x = _normalized(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x))
        x = _normalized(layers.Conv2D(WIDTH * factor, 1, use_bias=False)(x))
    x = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = tf_keras.Model(inputs, x, name="depthwise")
    _fit(model, images, labels)
    yield Work(
        name="depthwise, Fashion-MNIST", model=model, calibration=images[:CALIBRATION], tests=tests[:TESTS],
        input_range=(0.0, 1.0),
    )


def spread() -> Iterator[Work]:
    """Yield a network of Dense layers whose units differ 1000 times: the next layer evens that out again."""
    images, labels, tests = _fashion_mnist()
    tf_keras.utils.set_random_seed(0)
    inputs = layers.Input((28, 28, 1))
    x = layers.Dense(64, activation="relu", name="first")(layers.Flatten()(inputs))
    model = tf_keras.Model(inputs, layers.Dense(10, activation="softmax", name="last")(x), name="spread")
    _fit(model, images, labels)
    sizes = np.geomspace(1 / SPREAD, 1.0, 64).astype(np.float32)
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel * sizes, bias * sizes])
    kernel, bias = model.get_layer("last").get_weights()
    model.get_layer("last").set_weights([kernel / sizes[:, None], bias])
    yield Work(
        name="Dense units, Fashion-MNIST", model=model, calibration=images[:CALIBRATION], tests=tests[:TESTS],
        input_range=(0.0, 1.0),
    )


def _fashion_mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = load_fashion_mnist(DataConfig(name="fashion_mnist"))
    assert found.test is not None
    images, tests = (
        np.asarray(part[:], np.float32).reshape(-1, 28, 28, 1) / np.float32(255)
        for part in (found.train.images[:TRAINED_ON], found.test.images)
    )
    return images, found.train.labels[:TRAINED_ON], tests


def _normalized(x: object) -> object:
    return layers.ReLU()(layers.BatchNormalization()(x))


def _fit(model: tf_keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    model.compile(tf_keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=64, epochs=EPOCHS, verbose=0)


def tables(work: Work, ways: list[str]) -> Iterator[str]:
    """Yield the lines of a network's two tables."""
    wanted = work.model.predict(work.tests, batch_size=100, verbose=0)
    flat, rows = lower(work.model), []
    for way in ways:
        say(f"{work.name}: {way}")
        quantized, best = quantize(flat, work, way)
        tflite = convert_tflite(quantized.model, scheme="int8-ptq")
        for format, content in (("tflite", tflite), ("onnx", convert_onnx(tflite, variant="u8u8"))):
            _, (spec,), (outputs,) = specs_and_outputs(content, format=format, inputs=(work.tests,))
            answers = dequantize(outputs, spec).reshape(wanted.shape)
            agreement = np.mean(answers.argmax(-1) == wanted.argmax(-1))
            rows.append(
                f"| {work.name} | {way} | {format} | {len(content):,} | {_db(sqnr_db(wanted, answers))} "
                f"| {agreement:.2%} |"
            )
        if best is not None:
            yield from (TRIALS, _rule(TRIALS))
            for trial in best.trials:
                kept = "yes" if trial.is_kept else "no"
                yield (
                    f"| {work.name} | {' + '.join(trial.steps)} | {_db(trial.sqnr_db)} | {kept} | {trial.seconds:.1f} |"
                )
            yield ""
    yield from (FILES, _rule(FILES), *rows)


def quantize(
    flat: tf_keras.Model, work: Work, way: str, *, weight_range: str = FULL
) -> tuple[QuantizedModel, Best | None]:
    """Return the network on integers, and what the search found where there was one."""
    quantized = insert_fake_quantization(
        flat, input_ranges=[work.input_range], weight_range=weight_range, weight_scales=work.weight_scales
    )
    if way == "best":
        start, (calibration, held_out) = quantized.model.get_weights(), parts(_batches(work.calibration))
        best = find_best(quantized, calibration, held_out)
        repeat(quantized, best.steps, [*calibration, *held_out], start=start)
        return quantized, best
    calibrate(quantized, _batches(work.calibration), method=way)
    finish(quantized)
    return quantized, None


def _batches(examples: np.ndarray) -> list[np.ndarray]:
    return [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]


def _db(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f}"


def _rule(head: str) -> str:
    return "|" + " --- |" * (head.count("|") - 1)


if __name__ == "__main__":
    main()
