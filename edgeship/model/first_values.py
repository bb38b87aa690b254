"""What the first layer with weights sees: the trap of pixels on another scale than a model was trained on.

A Keras model often begins with `Rescaling(1 / 255)` or the like, since Keras' own loaders give pixels of 0..255. Fed
with pixels of 0..1 it sees pictures that are nearly black, answers always alike, and no error says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tf_keras

from edgeship.model.keras2 import is_tensor, read_by
from edgeship.model.predict import predict_batch

# Pixels of 0..1 span 0.004 when divided by 255, 0.008 by 127.5, 0.02 by the deviation of 0..255 pixels (50 to 80).
# Scaled as they should be they span 0.125 at least: calibration images fill 32 levels of 256 or more.
LEAST_SPAN = 0.05


@dataclass(frozen=True, kw_only=True)
class FirstValues:
    """The values that reach the first layer with weights of its own."""

    layer: str
    low: float
    high: float
    span: float  # of the channel whose values are furthest apart

    @property
    def are_squeezed(self) -> bool:
        """Return whether they span so little that the pixels are likely on a scale that is 255 times too small."""
        return self.span < LEAST_SPAN


def first_values(flat: tf_keras.Model, batch: np.ndarray) -> FirstValues | None:
    """Run what a lowered network does to its input before the first layer that was trained.

    Args:
        flat: a lowered network with one input.
        batch: float32 (n, ...), preprocessed.

    Returns:
        None where the input goes to several layers, or straight into the first layer with weights.
    """
    tensor = flat.inputs[0]
    while len(readers := _readers(flat, tensor)) == 1 and _only_scales(readers[0]):
        layer = readers[0]
        if len(layer.inbound_nodes) != 1 or len(read_by(layer.inbound_nodes[0])) != 1:
            return None
        outputs = layer.inbound_nodes[0].outputs
        if not is_tensor(outputs):  # several of them
            return None
        tensor = outputs
    if tensor is flat.inputs[0] or len(readers) != 1:
        return None
    values = predict_batch(tf_keras.Model(flat.inputs[0], tensor), batch)
    return FirstValues(
        layer=readers[0].name, low=float(values.min()), high=float(values.max()),
        span=float(np.ptp(values.reshape(-1, values.shape[-1]), axis=0).max()),
    )


def _only_scales(layer: tf_keras.layers.Layer) -> bool:
    # Not by what is trainable: a frozen layer was trained as well. The numbers of a Normalization are of its data.
    return not layer.weights or isinstance(layer, tf_keras.layers.Normalization)


def squeezed(flat: tf_keras.Model, batch: np.ndarray) -> str | None:
    """Return what is wrong with the scale of a batch, as the start of a sentence; None where nothing is seen."""
    seen = first_values(flat, batch)
    if seen is None or not seen.are_squeezed:
        return None
    return (
        f"inputs from {batch.min():.3g} to {batch.max():.3g} reach {seen.layer} as {seen.low:.4g} to {seen.high:.4g}, "
        "nearly all alike"
    )


def _readers(flat: tf_keras.Model, tensor: object) -> list[tf_keras.layers.Layer]:
    return [
        layer for layer in flat.layers
        if any(read is tensor for node in layer.inbound_nodes for read in read_by(node))
    ]
