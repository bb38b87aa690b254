"""What a file of weights holds, as a record, and the one number type that NumPy lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TORCH, KERAS = "torch", "keras"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Named arrays. They have the file's own number types, but for bfloat16, which becomes float32."""

    layout: str  # how tensors are named and laid out: TORCH or KERAS
    tensors: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()  # what the reader had to choose, for the progress output
    # Of a whole Keras model, each layer's configuration by name; None where the file has weights alone.
    layers: dict[str, dict[str, Any]] | None = None


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """bfloat16 as its uint16 bits -> the same numbers: it is float32's upper half, so nothing is rounded."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
