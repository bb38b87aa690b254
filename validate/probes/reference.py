"""Float Keras, what every artifact is proven against. The one module here that imports TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.errors import BundleError
from edgeship.core.native_output import quiet_native_output

with quiet_native_output():
    import tensorflow as tf
    import tf_keras  # noqa: F401 - takes seconds, which are no part of the time that loading a file takes

# What registers the layers of a lowered network. A bundle is a file from outside, and brings no other code along.
OWN_MODULES = frozenset({"edgeship.model.layers", "edgeship.model.flat_layers"})
# Faster than one by one, and small enough for 224 x 224 images in a few hundred megabytes.
BATCH_EXAMPLES = 32


class FloatKeras:
    """The float model as one compiled function.

    A function is traced once per batch size and has none of the milliseconds that an eager Keras call or
    `predict` spends in Python, so its latency is the network's.
    """

    def __init__(self, path: str, *, custom_objects: tuple[str, ...]) -> None:
        if others := sorted(set(custom_objects) - OWN_MODULES):
            raise BundleError(
                f"{path}: the bundle names the module {others[0]!r}, and code that a bundle names is not imported; it "
                "was made by an older version: export it again"
            )
        # Not before: importing it starts TensorFlow, whose threads are then what they are.
        from edgeship.model.keras_code import FOR_BUNDLES
        from edgeship.model.keras_file import load_keras_model

        model = load_keras_model(Path(path), remedies=FOR_BUNDLES)
        self._function = tf.function(
            lambda *arrays: tf.nest.flatten(model(arrays[0] if len(arrays) == 1 else list(arrays), training=False))
        )
        self.inputs = [_specification(tensor) for tensor in model.inputs]
        self.outputs = [_specification(tensor) for tensor in model.outputs]
        self.batch = BATCH_EXAMPLES if all(item["shape"][0] is None for item in self.inputs) else 1

    def infer(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of a few examples: (n, ...) for each input in, (n, ...) for each output out."""
        return [output.numpy() for output in self._function(*map(tf.constant, arrays))]


def open_keras(path: str, *, threads: int, custom_objects: tuple[str, ...] = ()) -> FloatKeras:
    """Load the float model; `custom_objects` are the modules that the bundle says it needs.

    Raises:
        BundleError: they are others than edgeship's own.
        ModelError: the file is damaged, or carries code.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with quiet_native_output():
        tf.constant(0)  # the last notice comes with the first tensor; from then on the threads are what they are
    return FloatKeras(path, custom_objects=custom_objects)


def _specification(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": [size if size is None else int(size) for size in tensor.shape],
        "dtype": tensor.dtype.name,
        "scale": None,
        "zero_point": None,
    }
