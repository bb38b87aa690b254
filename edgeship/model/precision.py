"""How far a network that computes in float16 or bfloat16 may be from the same network in float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Relative rounding of one number: half a step of 11 or 8 significant bits.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
# What a layer of such a precision rounds: its inputs, its kernel, its bias and its result (sums are float32's).
ROUNDINGS_PER_LAYER = 4


def rounding_of(layers: Iterable[Any]) -> float:
    """Return how far results may be off from those in float32, relative to the largest; 0 where all is float32."""
    return sum(ROUNDINGS_PER_LAYER * ROUNDING.get(layer.compute_dtype, 0.0) for layer in layers)
