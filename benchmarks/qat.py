"""Quantization-aware training beside stock tfmot: same float model, same images, same number of steps, several seeds.

    python -m benchmarks.qat accuracy --out DIR [--width 16] [--epochs 1] [--seeds 3]
    python -m benchmarks.qat speed [--width 16] [--size 28]

`accuracy` trains ResNet-34 on Fashion-MNIST (20,000 training images) once per seed, quantizes each float model in the
ways below, exports each to int8 TFLite, and runs every file in LiteRT on the 10,000 test images. Finished seeds are
kept in DIR. `speed` times one training step of each, interleaved in one process, as ratios to the float step.

    float         the float model, in Keras
    ptq           edgeship's int8-ptq, no training
    edgeship      edgeship's int8-qat, as configs/fashion_mnist.toml has it
    stock         tfmot.quantize_model of the flattened model; edgeship's optimizer and learning rate, labels as targets
    stock adam    the same, as tfmot's guide trains: model.compile("adam"), that is a constant rate of 1e-3
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.config import Config, DataConfig, ModelConfig, QuantizeConfig, TrainConfig
from edgeship.core.cpu import processor_identity
from edgeship.core.integers import quantize
from edgeship.core.progress import say
from edgeship.data import Splits, preprocessed_batches, preprocessing_of

ARMS = ("ptq", "edgeship", "stock", "stock adam")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("--out", type=Path, default=Path("runs/qat_benchmark"))
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--epochs", type=int, default=1, help="of quantization-aware training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20, help="of the speed measurement")
    options = parser.parse_args()
    if options.what == "speed":
        print(speed(width=options.width, size=options.size, rounds=options.rounds))
        print()
        print(parts(rounds=options.rounds))
        return
    results = [one_seed(config_of(options, seed), options.out) for seed in range(options.seeds)]
    print(accuracy_table(results))


def config_of(options: argparse.Namespace, seed: int) -> Config:
    """configs/fashion_mnist.toml at another width and seed."""
    return Config(
        data=DataConfig(
            name="fashion_mnist", image_size=options.size, train_images=20_000, calibration_images=512, seed=seed
        ),
        model=ModelConfig(width=options.width),
        train=TrainConfig(epochs=6, batch_size=64, learning_rate=1e-3, augmentation="none", seed=seed),
        quantize=QuantizeConfig(epochs=options.epochs, seed=seed),
    )


def one_seed(config: Config, out: Path) -> dict[str, Any]:
    """Top-1 answers of every arm on the test split, measured or read from an earlier call."""
    name = f"width{config.model.width}-epochs{config.quantize.epochs}-seed{config.train.seed}"
    file = out / f"{name}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    from edgeship.app.pipeline.pipeline import Pipeline
    from edgeship.model import build
    from edgeship.quantize.lowering.lower import lower

    pipeline = Pipeline(config=config, out=out / f"width{config.model.width}-seed{config.train.seed}")
    pipeline.train()
    model, splits = build.load_model(pipeline.float_file), pipeline.splits
    spec = preprocessing_of(config.data)
    reference = np.concatenate([
        model.predict_on_batch(batch).argmax(-1) for batch in preprocessed_batches(splits.test, spec, size=256)
    ])
    correct = {"float": reference == splits.test.labels}
    for arm in ARMS:
        say(f"{name}: {arm}")
        correct[arm] = answers(train_arm(arm, lower(model), model, splits, config), splits, config)
    result = {
        "seed": config.train.seed, "steps": config.quantize.epochs * (len(splits.train) // config.quantize.batch_size),
        "width": config.model.width, "cpu": processor_identity(),
        "correct": {arm: "".join("01"[bool(item)] for item in values) for arm, values in correct.items()},
    }
    file.write_text(json.dumps(result))
    return result


def train_arm(arm: str, flat: Any, model: Any, splits: Splits, config: Config) -> bytes:
    """One way from a float model to an int8 TLite file's bytes."""
    import tensorflow_model_optimization as tfmot

    from edgeship.export.tflite.convert import convert_tflite
    from edgeship.model.train import Schedule, fit
    from edgeship.quantize import qat
    from edgeship.quantize.prepare import finish, prepare, seed_ranges

    spec, settings = preprocessing_of(config.data), config.quantize
    if arm in ("ptq", "edgeship"):
        ours = prepare(flat, spec=spec, config=settings)
        if arm == "ptq":
            seed_ranges(ours, splits.calibration, spec=spec, method="min-max")
            finish(ours)
        else:
            qat.train(
                ours, calibration=splits.calibration, images=splits.train, spec=spec, config=settings,
                augmentation=config.train.augmentation, teacher=model,
            )
        return convert_tflite(ours.model, scheme="int8-qat")
    stock = tfmot.quantization.keras.quantize_model(flat)
    schedule = Schedule(
        epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        augmentation=config.train.augmentation, seed=settings.seed,
    )
    if arm == "stock":
        fit(stock, splits.train, spec=spec, label="stock tfmot", schedule=schedule)
    else:
        images = np.concatenate(list(preprocessed_batches(splits.train, spec, size=1000)))
        stock.compile("adam", "sparse_categorical_crossentropy")
        stock.fit(images, splits.train.labels, batch_size=settings.batch_size, epochs=settings.epochs, verbose=0)
    return convert_tflite(stock, scheme="int8-qat")


def answers(content: bytes, splits: Splits, config: Config) -> np.ndarray:
    """Whether an int8 TFLite file is right, for every test image, in LiteRT (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    from edgeship.export.proof.golden import specs_of

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    (spec,), _ = specs_of(content, format="tflite")
    found = []
    for batch in preprocessed_batches(splits.test, preprocessing_of(config.data), size=256):
        for image in quantize(batch, spec):
            interpreter.set_tensor(entry, image[None])
            interpreter.invoke()
            found.append(int(interpreter.get_tensor(result).argmax()))
    return np.array(found) == splits.test.labels


def accuracy_table(results: list[dict[str, Any]]) -> str:
    """Per seed: float top-1, and each arm's paired difference to float with its 95 % interval, in points."""
    from edgeship.validate.questions.proportions import paired_difference_interval

    first = results[0]
    lines = [
        f"ResNet-34 of width {first['width']} on Fashion-MNIST, {first['steps']:,} steps, 10,000 test images; "
        f"CPU: {first['cpu']['cpu_model']}",
        "",
        "| seed | float top-1 | " + " | ".join(f"{arm} - float" for arm in ARMS) + " | edgeship - stock |",
        "|---" * (3 + len(ARMS)) + "|",
    ]

    def points(before: np.ndarray, after: np.ndarray) -> str:
        gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
        low, high = paired_difference_interval(gained=gained, lost=lost, count=len(before))
        return f"{100 * (gained - lost) / len(before):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"

    pooled: dict[str, list[np.ndarray]] = {arm: [] for arm in ("float", *ARMS)}
    for result in results:
        right = {arm: np.array([item == "1" for item in text]) for arm, text in result["correct"].items()}
        for arm, values in right.items():
            pooled[arm].append(values)
        lines.append(
            f"| {result['seed']} | {right['float'].mean():.2%} | "
            + " | ".join(points(right["float"], right[arm]) for arm in ARMS)
            + f" | {points(right['stock'], right['edgeship'])} |"
        )
    every = {arm: np.concatenate(values) for arm, values in pooled.items()}
    lines.append(
        f"| all | {every['float'].mean():.2%} | " + " | ".join(points(every["float"], every[arm]) for arm in ARMS)
        + f" | {points(every['stock'], every['edgeship'])} |"
    )
    return "\n".join(lines)


def speed(*, width: int, size: int, rounds: int, batch: int = 64) -> str:
    """Median ratio of each arm's training step to the float step, from interleaved steps in one process."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

    from edgeship.model.resnet import build_resnet
    from edgeship.quantize.insert import insert_fake_quantization
    from edgeship.quantize.lowering.lower import lower
    from edgeship.quantize.prepare import calibrate

    model = build_resnet(input_shape=(size, size, 1), classes=10, width=width)
    images = np.random.default_rng(0).random((batch, size, size, 1)).astype(np.float32)
    labels = tf.constant(np.arange(batch) % 10)

    def ours(*, frozen: bool) -> Any:
        quantized = insert_fake_quantization(lower(model), input_ranges=[(0.0, 1.0)])
        calibrate(quantized, [images], method="min-max")
        for item in quantized.ranges if frozen else ():
            item.freeze()
        return quantized.model

    arms = {
        "float": step_of(model),
        "edgeship, ranges frozen": step_of(ours(frozen=True)),
        "edgeship, ranges follow": step_of(ours(frozen=False)),
        "edgeship, ranges frozen, float model as teacher": step_of(ours(frozen=True), teacher=model),
        "stock tfmot": step_of(tfmot.quantization.keras.quantize_model(lower(model))),
    }
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for round_ in range(rounds + 2):  # the first two trace and warm up
        for arm, step in arms.items():
            start = time.perf_counter()
            step(tf.constant(images), labels).numpy()
            if round_ >= 2:
                seconds[arm].append(time.perf_counter() - start)
    base = np.array(seconds["float"])
    flags = ", ".join(_cpu_flags()) or "none of those that matter"
    lines = [
        f"width {width}, {size}x{size}, batch {batch}, {rounds} interleaved rounds; CPU flags: {flags}", "",
        "| training step | median ratio to the float step | middle half |", "|---|---|---|",
    ]
    for arm, values in seconds.items():
        low, median, high = np.percentile(np.array(values) / base, [25, 50, 75])
        lines.append(f"| {arm} | {median:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines)


def parts(*, rounds: int) -> str:
    """What the operations of a training step cost, forward and backward, interleaved: one layer in the middle."""
    import tensorflow as tf

    from edgeship.quantize.weights import _round_straight_through

    generator = np.random.default_rng(0)
    kernel = tf.constant(generator.normal(size=(3, 3, 256, 256)).astype(np.float32))
    tensor = tf.constant(generator.random((64, 14, 14, 256)).astype(np.float32))
    ones, zeros, none = tf.ones(256), tf.zeros(256), tf.zeros(0)

    def limit() -> Any:
        return tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axis=(0, 1, 2)))

    operations: dict[str, tuple[Any, Callable[[], Any]]] = {
        "kernel 3x3x256x256, tf.quantization.fake_quant_with_min_max_vars_per_channel": (
            kernel, lambda: tf.quantization.fake_quant_with_min_max_vars_per_channel(
                kernel, -limit(), limit(), narrow_range=True
            ),
        ),
        "kernel 3x3x256x256, round(w / s) * s with the gradient passed through": (
            kernel, lambda: _round_straight_through(kernel, limit() / 127),
        ),
        "tensor 64x14x14x256, batch norm with the batch's statistics": (
            tensor, lambda: tf.raw_ops.FusedBatchNormV3(
                x=tensor, scale=ones, offset=zeros, mean=none, variance=none, is_training=True
            ).y,
        ),
        "tensor 64x14x14x256, tf.quantization.fake_quant_with_min_max_vars": (
            tensor, lambda: tf.quantization.fake_quant_with_min_max_vars(tensor, 0.0, 1.0),
        ),
        "tensor 64x14x14x256, relu": (tensor, lambda: tf.nn.relu(tensor)),
    }

    def compiled(source: Any, forward: Callable[[], Any]) -> Callable[[], Any]:
        @tf.function
        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(source)
                result = forward()
            return tape.gradient(result, source)

        return run

    functions = {name: compiled(*operation) for name, operation in operations.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(rounds + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function().numpy()
            if round_ >= 2:
                milliseconds[name].append(1000 * (time.perf_counter() - start))
    lines = ["| operation, forward and backward | fastest, ms | median, ms |", "|---|---|---|"]
    lines += [f"| {name} | {min(values):.1f} | {np.median(values):.1f} |" for name, values in milliseconds.items()]
    return "\n".join(lines)


def step_of(model: Any, teacher: Any = None) -> Callable[[Any, Any], Any]:
    """One compiled training step, as edgeship.model.train does it."""
    import tensorflow as tf
    import tf_keras

    optimizer = tf_keras.optimizers.AdamW(1e-5, weight_decay=0.0)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(images: Any, labels: Any) -> Any:
        targets = tf.one_hot(labels, 10) if teacher is None else teacher(images, training=False)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf_keras.losses.categorical_crossentropy(targets, model(images, training=True)))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def _cpu_flags() -> list[str]:
    from edgeship.validate.process.machine import describe_machine

    return list(describe_machine()["cpu_flags"] or ())


if __name__ == "__main__":
    main()
