"""Float Keras, what every artifact is proven against. The one module here that imports TensorFlow."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

# Faster than one by one, and small enough for 224 x 224 images in a few hundred megabytes.
BATCH_IMAGES = 32


class FloatKeras:
    """The float model as one compiled function.

    A function is traced once per batch size and has none of the milliseconds that an eager Keras call or
    `predict` spends in Python, so its latency is the network's.
    """

    batch = BATCH_IMAGES

    def __init__(self, path: str, *, custom_objects: tuple[str, ...]) -> None:
        for module in custom_objects:
            importlib.import_module(module)  # the layers register themselves by name
        model = tf_keras.models.load_model(path, compile=False)
        self._function = tf.function(lambda images: model(images, training=False))
        self.inputs = [_specification(tensor) for tensor in model.inputs]
        self.outputs = [_specification(tensor) for tensor in model.outputs]

    def infer(self, images: np.ndarray) -> np.ndarray:
        """float32 (n, S, S, C) -> float32 (n, classes)."""
        output: np.ndarray = self._function(tf.constant(images)).numpy()
        return output


def open_keras(path: str, *, threads: int, custom_objects: tuple[str, ...] = ()) -> FloatKeras:
    """Load the float model; `custom_objects` are modules that register its layers."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return FloatKeras(path, custom_objects=custom_objects)


def _specification(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": [size if size is None else int(size) for size in tensor.shape],
        "dtype": tensor.dtype.name,
        "scale": None,
        "zero_point": None,
    }
