"""What a training step costs with fake quantization, as ratios to the float step, interleaved in one process.

    python -m benchmarks.qat_step [--width 16] [--size 28] [--rounds 20]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print(speed(width=options.width, size=options.size, rounds=options.rounds))
    print()
    print(parts(rounds=options.rounds))


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
