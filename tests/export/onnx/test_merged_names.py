"""The same TFLite bytes give the same ONNX bytes, though tf2onnx merges equal constants under a name of chance."""

from __future__ import annotations

import gc

import numpy as np
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.export.onnx import convert

PICTURES = np.random.default_rng(0).uniform(0, 1, (32, 8, 8, 3)).astype("float32")


def towers() -> tf_keras.Model:
    """Two calls of one convolution, on inputs of one range: TFLite has its bias twice."""
    tf_keras.utils.set_random_seed(1)
    tower = tf_keras.Sequential([
        layers.Input((8, 8, 3)),
        layers.Conv2D(4, 3, padding="same", name="conv"), layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
    ], name="tower")
    one, other = layers.Input((8, 8, 3), name="one"), layers.Input((8, 8, 3), name="other")
    joined = layers.Concatenate(name="joined")([tower(one), tower(other)])
    return tf_keras.Model([one, other], layers.Dense(4, name="values")(layers.Flatten(name="flat")(joined)))


def test_equal_biases_have_the_first_name_in_every_conversion() -> None:
    tflite = edgeship.quantize_model(towers(), [PICTURES, PICTURES[::-1]]).convert("tflite")
    found, kept = set(), []
    for _ in range(8):  # which name is left follows from addresses in memory: once in two it was the other
        convert._converted.cache_clear()
        kept.append(bytearray(50_000 * (len(kept) + 1)))
        gc.collect()
        found.add(convert.convert_onnx(tflite, variant="u8u8"))
    assert len(found) == 1
