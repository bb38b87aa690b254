"""Bias correction: what rounding shifts in the mean of every output channel is taken out by the bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.2, with the means measured on calibration data. Weights round independently of one another, so the errors of one
channel add up to an offset where its inputs are positive (behind a ReLU); a bias is an int32 number that is there
anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from edgeship.quantize.layerwise import Seen


def correct_bias(layer: Any, seen: Seen) -> None:
    """Move the bias of a wrapped layer by the mean error of each output channel.

    A layer without one stays, and one whose biases are all zero: the converter leaves those out of the file.
    """
    if not layer.layer.use_bias or not np.any(layer.layer.bias.numpy()):
        return
    total, count = 0.0, 0
    for inputs, wanted in zip(seen.inputs, seen.wanted, strict=True):
        error = tf.cast(wanted - layer(inputs), tf.float64)
        rows = tf.reshape(error, (-1, error.shape[-1]))
        total, count = total + tf.reduce_sum(rows, axis=0), count + int(rows.shape[0])
    layer.layer.bias.assign_add(tf.cast(total / count, tf.float32))
