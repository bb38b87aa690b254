"""What `edgeship.quantize_model` costs on pictures of 224x224: CPU seconds and peak memory of each step.

    python -m benchmarks.front_door [--examples 128] [NAME ...]

Each network (random weights) has a process of its own. "forward passes" is the float model on the same examples, in the
same batches; every other row is a step inside `quantize_model`, and "all of it" is the whole call. CPU seconds are
those of all threads of this process, and change little with what else the machine is doing. The peak is the largest
resident memory within the step; what the process held before the call is the row "before".
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

SIZE, BATCH, SEED = 224, 32, 0
# The functions that `quantize_model` calls, in `edgeship.api.quantize_model`, and what each is in words.
STEPS = {
    "lower_model": "lower",
    "insert_fake_quantization": "insert fake quantization",
    "calibrate": "calibrate",
    "_check_outputs": "check the outputs",
}


@dataclass
class Costs:
    """CPU seconds and peak memory of each step, by its name."""

    rows: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Record a block."""
        _forget_peak()
        start = time.process_time()
        yield
        self.rows[name] = time.process_time() - start, _memory_mb("VmHWM")

    def recorded(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return the same function, which records what it costs."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.of(name):
                return function(*args, **kwargs)

        return call


def mobilenet() -> Any:
    """Return MobileNetV1 with a quarter of the channels."""
    import tf_keras

    return tf_keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=10)


def resnet(*, width: int) -> Any:
    """Return the home model, without its last layer: with random weights that gives all pictures one answer.

    Args:
        width: 64 is its full width.
    """
    import tf_keras

    from edgeship.model.resnet import build_resnet

    model = build_resnet(input_shape=(SIZE, SIZE, 3), classes=10, stage_sizes=(3, 4, 6, 3), width=width)
    return tf_keras.Model(model.input, model.layers[-2].output)


MODELS: dict[str, Callable[[], Any]] = {
    "MobileNetV1 0.25": mobilenet, "ResNet-34, width 16": functools.partial(resnet, width=16),
    "ResNet-34": functools.partial(resnet, width=64),
}


def main() -> None:
    """Measure each network in a process of its own, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {'; '.join(MODELS)}")
    parser.add_argument("--examples", type=int, default=128, help="of calibration")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MODELS]:
        parser.error(f"expected {' or '.join(MODELS)}; found {', '.join(unknown)}")
    names = options.names or list(MODELS)
    if len(names) == 1:
        print("\n".join(table(names[0], measure(MODELS[names[0]], examples=options.examples))))
        return
    for name in names:
        command = [sys.executable, "-m", "benchmarks.front_door", name, "--examples", str(options.examples)]
        subprocess.run(command, check=True)


def measure(build: Callable[[], Any], *, examples: int) -> Costs:
    """Return what quantizing a network of random weights with so many examples costs."""
    import tf_keras

    import edgeship
    from edgeship.api import quantize_model as calls

    tf_keras.utils.set_random_seed(SEED)
    model, costs = build(), Costs()
    _keep_variance(model)
    pictures = np.random.default_rng(SEED).uniform(size=(examples, *model.input_shape[1:])).astype(np.float32)
    batches = [pictures[start : start + BATCH] for start in range(0, examples, BATCH)]
    model(batches[0][:1])
    with costs.of("forward passes"):
        for batch in batches:
            model(batch, training=False)
    costs.rows["before"] = 0.0, _memory_mb("VmRSS")
    with contextlib.ExitStack() as stack:
        for name, words in STEPS.items():
            function = getattr(calls, name)
            stack.enter_context(mock.patch.object(calls, name, costs.recorded(function, words)))
        start = time.process_time()
        edgeship.quantize_model(model, iter(batches))
        took = time.process_time() - start
    costs.rows["all of it"] = took, max(peak for _, peak in costs.rows.values())
    return costs


def table(name: str, costs: Costs) -> list[str]:
    """Return the rows of a network as Markdown."""
    head = [f"| {name} | CPU seconds | peak memory, MB |", "| --- | --- | --- |"]
    return [*head, *(f"| {step} | {seconds:.1f} | {peak:,.0f} |" for step, (seconds, peak) in costs.rows.items())]


def _keep_variance(model: Any) -> None:
    """Draw kernels anew so that values neither vanish nor grow from layer to layer (He et al. 2015)."""
    generator = np.random.default_rng(SEED)
    for weight in model.weights:
        if "kernel" in weight.name:
            products = np.prod(weight.shape[:2] if "depthwise" in weight.name else weight.shape[:-1])
            weight.assign(generator.normal(scale=(2 / products) ** 0.5, size=weight.shape))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's word for "the peak starts anew"


def _memory_mb(key: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
