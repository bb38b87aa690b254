"""The range of a kernel whose products cannot saturate 16 bits: as large as two neighbours of one sign together."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tf_keras import layers


def largest_pair_sum(kernel: Any) -> Any:
    """Return, for each output channel, the largest sum of |weights| of one sign in two neighbours.

    Processors without VNNI add the products of the neighbours (2j, 2j + 1) of the flattened (rows, columns, inputs) in
    16 bits (edgeship/graph/saturation.py). With a scale of this sum by 127 the codes of a pair of one sign sum to at
    most 127 before rounding. Each of the two rounds up by at most a half, so to at most 128 after it, and
    128 x 255 = 32640 < 2**15. The sum is never below the largest |weight|.

    Args:
        kernel: (rows, columns, inputs, outputs), (inputs, outputs), or any other with the outputs last.

    Returns:
        (outputs,), at least 0.
    """
    rows = tf.reshape(kernel, (-1, kernel.shape[-1]))
    rows = tf.pad(rows, ((0, rows.shape[0] % 2), (0, 0)))
    pairs = tf.reshape(rows, (-1, 2, kernel.shape[-1]))
    sums = tf.maximum(tf.reduce_sum(tf.nn.relu(pairs), axis=1), tf.reduce_sum(tf.nn.relu(-pairs), axis=1))
    return tf.reduce_max(sums, axis=0)


def has_pairs(layer: Any) -> bool:
    """Whether the products of a layer are added in pairs; those of a depthwise convolution are not.

    With several outputs per input ONNX Runtime computes a depthwise convolution as a matrix product, which has pairs.
    """
    return not (isinstance(layer, layers.DepthwiseConv2D) and layer.depth_multiplier == 1)
