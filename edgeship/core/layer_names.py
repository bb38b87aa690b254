"""Names of layers with fake-quantized weights: tfmot wraps such a layer, and the wrapper has a prefixed name.

Files and messages know the layer's name alone.
"""

from __future__ import annotations

import re

WRAPPER_PREFIX = "quant_"
# What ONNX Runtime appends to the names of the kernels that it makes itself.
KERNEL_SUFFIXES = re.compile(r"(_token_\d+|_nchwc|_quant)+$")


def wrapper_name(layer: str) -> str:
    """Return the name of the wrapper of a layer."""
    return f"{WRAPPER_PREFIX}{layer}"


def layer_name(name: str) -> str:
    """Return the name of the layer in a wrapper of this name; `name` itself where it is no wrapper's."""
    return name.removeprefix(WRAPPER_PREFIX)


def kernel_names(layer: str) -> tuple[str, ...]:
    """Return the names under which a runtime may time a layer: its own, its kernel's, or the convolution's in it."""
    return layer, KERNEL_SUFFIXES.sub("", layer), layer.partition("/")[0]
