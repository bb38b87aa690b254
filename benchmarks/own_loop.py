"""The same few lines of a user's own training, with tfmot and with edgeship, on Fashion-MNIST, as a Markdown table.

    python -m benchmarks.own_loop [--epochs 3] [--trained-epochs 1] [--learning-rate 0.001] [--seeds 0] [--out FILE]

One small network, trained in float. From the same float weights, each way makes a model that is trained with `compile`
and `fit`: the same loss, optimizer, learning rate, epochs, batches and order of images; then an int8 TFLite file, which
answers the 10,000 test images in LiteRT.

    tfmot       tfmot.quantize_model, fit, tf.lite.TFLiteConverter
    edgeship    edgeship.quantize_model, fit on its `.keras`, convert
    edgeship, not trained    the same without fit

A second network is the first with its convolution and pooling in a layer of the user's own.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

import edgeship
from benchmarks.cells import points
from benchmarks.mlperf_tiny import opening
from edgeship.core.config import DataConfig
from edgeship.core.integers import dequantize
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import say
from edgeship.data.fashion_mnist import load_fashion_mnist
from edgeship.export.proof.golden import specs_and_outputs

BATCH, CALIBRATION = 64, 300
SHOWN = 160  # characters of an error in the table
HEAD = "| seed | network | way | top-1 | difference to float, points [95 %] | integer operations |"


class Features(layers.Layer):
    """A convolution and a pooling as one layer, as users write them."""

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.convolution = layers.Conv2D(filters, 3, activation="relu")
        self.pool = layers.MaxPooling2D(2)

    def call(self, inputs: Any) -> Any:
        """Return the pooled features."""
        return self.pool(self.convolution(inputs))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes: tfmot makes the layer anew."""
        return {**super().get_config(), "filters": self.filters}


def plain() -> tf_keras.Model:
    """Return the network that tfmot's guide trains: one convolution, one dense layer that gives logits."""
    return tf_keras.Sequential([
        layers.Input((28, 28)), layers.Reshape((28, 28, 1)), layers.Conv2D(12, 3, activation="relu"),
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10),
    ])


def own_layer() -> tf_keras.Model:
    """Return the same network with a layer of the user's own in it."""
    return tf_keras.Sequential([
        layers.Input((28, 28)), layers.Reshape((28, 28, 1)), Features(12), layers.Flatten(), layers.Dense(10),
    ])


NETWORKS = {"plain": plain, "with a layer of its own": own_layer}


def main() -> None:
    """Train, quantize, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="of float training")
    parser.add_argument("--trained-epochs", type=int, default=1, help="of quantization-aware training")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, in both trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    found = load_fashion_mnist(DataConfig(name="fashion_mnist"))
    assert found.test is not None
    work = Work(
        images=_scaled(found.train.images), labels=found.train.labels, test=_scaled(found.test.images),
        test_labels=found.test.labels, learning_rate=options.learning_rate,
    )
    lines = opening(HEAD).splitlines()
    for seed in options.seeds:
        for name in NETWORKS:
            say(f"{name}, seed {seed}")
            rows = work.rows(name, seed=seed, epochs=options.epochs, trained_epochs=options.trained_epochs)
            lines += [f"| {seed} | {name} | {row} |" for row in rows]
    table = "\n".join(lines) + "\n"
    print(table)
    if options.out:
        options.out.write_text(table)


def _scaled(images: Any) -> np.ndarray:
    return np.asarray(images[:], np.float32) / np.float32(255)


class Work:
    """The images, and what every way does with them."""

    def __init__(
        self, *, images: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray,
        learning_rate: float,
    ) -> None:
        self.images, self.labels, self.test, self.test_labels = images, labels, test, test_labels
        self.learning_rate = learning_rate

    def rows(self, name: str, *, seed: int, epochs: int, trained_epochs: int) -> list[str]:
        """Return the rest of each row of one network: way, top-1, difference to float, integer operations."""
        tf_keras.utils.set_random_seed(seed)
        model = NETWORKS[name]()
        self.fit(model, epochs=epochs, seed=seed)
        right = model.predict(self.test, batch_size=256, verbose=0).argmax(-1) == self.test_labels
        rows = [f"float, Keras | {right.mean():.2%} | reference | n/a"]
        try:
            stock = tfmot_model(model)
        except (ValueError, RuntimeError) as error:  # tfmot's own, for a layer that it does not know
            first = textwrap.shorten(str(error).splitlines()[0], SHOWN, placeholder=" ...")
            first = first.replace("`", "'")  # shown as code, or "<class ...>" would be no text in Markdown
            rows.append(f"tfmot | refused: `{first}` | n/a | n/a")
        else:
            self.fit(stock, epochs=trained_epochs, seed=seed)
            rows.append(self.row("tfmot", tfmot_file(stock), right))
        quantized = edgeship.quantize_model(model, self.images[:CALIBRATION])
        rows.append(self.row("edgeship, not trained", quantized.convert(), right))
        quantized = edgeship.quantize_model(model, self.images[:CALIBRATION])
        self.fit(quantized.keras, epochs=trained_epochs, seed=seed)
        rows.append(self.row("edgeship", quantized.convert(), right))
        return rows

    def fit(self, model: tf_keras.Model, *, epochs: int, seed: int) -> None:
        """Train as any Keras model is trained."""
        tf_keras.utils.set_random_seed(seed)  # the same order of images for every way
        model.compile(
            optimizer=tf_keras.optimizers.Adam(self.learning_rate),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"],
        )
        model.fit(self.images, self.labels, batch_size=BATCH, epochs=epochs, verbose=0)

    def row(self, way: str, content: bytes, right: np.ndarray) -> str:
        """Return the cells of a file, held against the images that the float model has right."""
        _, (spec,), (outputs,) = specs_and_outputs(content, format="tflite", inputs=(self.test,))
        now = dequantize(outputs, spec).argmax(-1) == self.test_labels
        found = edgeship.inspect_file(content)
        total = found.integer_operations + found.float_operations
        return f"{way} | {now.mean():.2%} | {points(right, now)} | {found.integer_operations}/{total}"


def tfmot_model(model: tf_keras.Model) -> tf_keras.Model:
    """Return what tfmot makes of a float model. Raises ValueError or RuntimeError for a layer that it does not know."""
    import tensorflow_model_optimization as tfmot

    with tfmot.quantization.keras.quantize_scope({"Features": Features}):
        return tfmot.quantization.keras.quantize_model(model)


def tfmot_file(stock: tf_keras.Model) -> bytes:
    """Return the int8 TFLite file of a model that tfmot made, as its guide converts it, with integer ends."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(stock)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet_native_output():
        content: bytes = converter.convert()
    return content


if __name__ == "__main__":
    main()
