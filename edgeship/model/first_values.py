"""What the first layer with weights sees: the traps of pixels on another scale, and of columns that one grid loses.

A Keras model often begins with `Rescaling(1 / 255)` or the like, since Keras' own loaders give pixels of 0..255. Fed
with pixels of 0..1 it sees pictures that are nearly black, answers always alike, and no error says so.

An int8 input has one scale for all its values, and 0 is one of its codes. Columns of a table that differ by orders of
magnitude, or that lie far from 0, share that scale, though a Normalization behind it makes them alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras

from edgeship.model.keras2 import is_tensor, maker_of, read_by
from edgeship.model.predict import predict_batch

# Pixels of 0..1 span 0.004 when divided by 255, 0.008 by 127.5, 0.02 by the deviation of 0..255 pixels (50 to 80).
# Scaled as they should be they span 0.125 at least: calibration images fill 32 levels of 256 or more.
LEAST_SPAN = 0.05
CODES = 255  # steps of an 8-bit grid
# k codes over the span of evenly spread values leave noise of 1 / k^2 of their variance (Bennett 1948).
LEAST_CODES = 4


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
    scaled = _scaled(flat)
    if scaled is None or scaled[0] is flat.inputs[0]:
        return None
    tensor, readers = scaled
    if len(readers) != 1:
        return None
    values = predict_batch(tf_keras.Model(flat.inputs[0], tensor), batch)
    return FirstValues(
        layer=readers[0].name, low=float(values.min()), high=float(values.max()),
        span=float(np.ptp(values.reshape(-1, values.shape[-1]), axis=0).max()),
    )


def _scaled(flat: tf_keras.Model) -> tuple[Any, list[tf_keras.layers.Layer]] | None:
    """The input of a network behind all that only scales it, and what reads that; None where it is taken apart."""
    tensor = flat.inputs[0]
    while len(readers := _readers(flat, tensor)) == 1 and _only_scales(readers[0]):
        layer = readers[0]
        if len(layer.inbound_nodes) != 1 or len(read_by(layer.inbound_nodes[0])) != 1:
            return None
        outputs = layer.inbound_nodes[0].outputs
        if not is_tensor(outputs):  # several of them
            return None
        tensor = outputs
    return tensor, readers


def lost_in_rounding(flat: tf_keras.Model, batch: np.ndarray) -> str | None:
    """Return what of a float batch one int8 grid loses, as the start of a sentence; None where it holds all.

    Args:
        flat: a lowered network with one input.
        batch: float32 (n, ...), preprocessed.
    """
    low, high = min(0.0, float(batch.min())), max(0.0, float(batch.max()))
    step = (high - low) / CODES
    if not step or batch.dtype.kind != "f":
        return None
    rounded = (np.rint(batch / np.float32(step)) * np.float32(step)).astype(np.float32)
    tensor = (_scaled(flat) or (flat.inputs[0], []))[0]
    if tensor is flat.inputs[0]:
        if not _lost(batch.reshape(-1, 1), rounded.reshape(-1, 1)).any():
            return None
        return (
            f"inputs from {batch.min():.6g} to {batch.max():.6g} are nearly all one code of an int8 grid, which has 0 "
            f"in it and steps of {step:.3g}; subtract their mean before the model"
        )
    scale = tf_keras.Model(flat.inputs[0], tensor)
    values, found = (np.asarray(predict_batch(scale, given)) for given in (batch, rounded))
    columns = values.shape[-1]
    lost = int(_lost(values.reshape(-1, columns), found.reshape(-1, columns)).sum())
    return None if not lost else (
        f"{lost} of {columns} columns or channels are next to nothing on the input's int8 grid, which has one scale "
        f"for all of them, 0 in it and steps of {step:.3g}; do before the model what {maker_of(tensor).name} does, and "
        "give the network behind it: tf_keras.Model(layer.output, model.outputs)"
    )


def _lost(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which columns have values that differ, and fewer than `LEAST_CODES` codes for them."""
    spread = values.var(axis=0, dtype=np.float64)
    noise = np.square(found - values, dtype=np.float64).mean(axis=0)
    lost: np.ndarray = (spread > 0) & (noise * LEAST_CODES**2 > spread)
    return lost


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
