"""Noise for symbolic inputs: what two networks that must be one are both asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

BATCH, SIZE = 2, 32  # for sizes that the model leaves open


def noise_for(inputs: Any) -> Any:
    """Return tensors for symbolic inputs of any structure: normal noise; zeros where an input takes no real numbers."""
    generator = np.random.default_rng(0)

    def noise(tensor: Any) -> Any:
        batch, *sizes = tensor.shape
        shape = (batch or BATCH, *(SIZE if size is None else size for size in sizes))
        if tensor.dtype.is_floating:
            return tf.constant(generator.normal(size=shape), tensor.dtype)
        return tf.zeros(shape, tensor.dtype)

    return tf.nest.map_structure(noise, inputs)
