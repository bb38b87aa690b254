"""Names of layers with fake-quantized weights: tfmot wraps such a layer, and the wrapper has a prefixed name.

Files and messages know the layer's name alone.
"""

from __future__ import annotations

WRAPPER_PREFIX = "quant_"


def wrapper_name(layer: str) -> str:
    """Return the name of the wrapper of a layer."""
    return f"{WRAPPER_PREFIX}{layer}"


def layer_name(name: str) -> str:
    """Return the name of the layer in a wrapper of this name; `name` itself where it is no wrapper's."""
    return name.removeprefix(WRAPPER_PREFIX)
