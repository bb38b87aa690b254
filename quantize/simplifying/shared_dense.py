"""A dense layer that is called several times -> a 1x1 convolution on as many images of one row.

The TFLite converter (2.21) rounds a kernel that two matrix products read once more, to scales of its own; one that two
convolutions read stays as it was trained.
"""

from __future__ import annotations

import math
from typing import Any

from tf_keras import layers

from edgeship.quantize.simplifying.replacement import Replacement


def shared_dense(layer: Any, activated: Any, *, over_units: bool) -> Replacement | None:
    """Return what stands for a Dense layer of several calls; None for one of a single call, or of an open size.

    Args:
        activated: (parts, tensor) -> the tensor behind the layer's activation function.
        over_units: whether that function needs the units as the last axis (a softmax).
    """
    shapes = [tuple(node.input_shapes[1:]) for node in layer.inbound_nodes]
    if len(shapes) < 2 or any(None in shape for shape in shapes):
        return None
    kernel, *bias = layer.get_weights()

    def build(parts: Replacement, tensor: Any) -> Any:
        before = tuple(tensor.shape[1:])
        if len(before) != 3:
            image = (1, math.prod(before[:-1]), before[-1])
            tensor = parts.of_shape(before, "image", layers.Reshape, image)(tensor)
        result = parts.layer("", layers.Conv2D, layer.units, 1, use_bias=layer.use_bias)(tensor)
        result = result if over_units else activated(parts, result)
        if len(before) != 3:
            result = parts.of_shape(before, "as_before", layers.Reshape, (*before[:-1], layer.units))(result)
        return activated(parts, result) if over_units else result

    return Replacement(layer, build, {"": [kernel[None, None], *bias]})
