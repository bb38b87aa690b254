"""Models that leave the sizes of their inputs open: files have those of the calibration examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import edgeship
from edgeship.core.errors import DataError

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.uniform(0, 1, (64, 12, 16, 3)).astype("float32")
SEQUENCES = RANDOM.normal(size=(64, 20, 4)).astype("float32")


def pictures(kind: Any) -> Any:
    """A map of the picture's size, behind a stride and an upsampling, and a pooled answer."""
    layers = kind.layers
    picture = layers.Input((None, None, 3), name="picture")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="down")(picture)
    x = layers.Concatenate(name="both")([picture, layers.UpSampling2D(name="up")(x)])
    x = layers.Conv2D(4, 3, name="map")(x)
    return kind.Model(picture, [x, layers.Dense(3, name="values")(layers.GlobalAveragePooling2D(name="pool")(x))])


def sequences(kind: Any) -> Any:
    layers = kind.layers
    steps = layers.Input((None, 4), name="steps")
    x = layers.Conv1D(8, 3, activation="relu", name="conv")(steps)
    return kind.Model(steps, layers.Dense(2, name="values")(layers.GlobalAveragePooling1D(name="pool")(x)))


@pytest.mark.parametrize("kind", [tf_keras, keras], ids=["keras 2", "keras 3"])
@pytest.mark.parametrize(("make", "examples"), [(pictures, PICTURES), (sequences, SEQUENCES)])
def test_the_files_have_the_sizes_of_the_calibration_examples(
    tmp_path: Path, kind: Any, make: Any, examples: np.ndarray
) -> None:
    quantized = edgeship.quantize_model(make(kind), examples)
    assert quantized.keras.input_shape == (None, *examples.shape[1:])
    bundle = quantized.export(tmp_path / "bundle")
    assert bundle.manifest.artifacts[0].inputs[0].shape == (1, *examples.shape[1:])
    report = bundle.validate(
        examples, latency_launches=1, latency_runs=2, runtimes=("keras", "litert", "onnxruntime")
    )
    assert report.verdict == "pass", report


def test_batches_of_several_sizes_are_refused() -> None:
    batches = [PICTURES[:8], PICTURES[8:16, :10]]
    with pytest.raises(DataError, match=r"expected picture: float32 \(n, 12, 16, 3\) as in the first batch, .*\(8, 10"):
        edgeship.quantize_model(pictures(tf_keras), batches)
