"""Prepared: one scheme's Keras model with all that its export must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tf_keras


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A network that is ready to be exported in one scheme."""

    scheme: str  # a name of `edgeship.core.schemes`
    # Flat, and what the scheme starts from (`Scheme.source`): the lowered float network, or one with fake quantization
    # and final ranges.
    model: tf_keras.Model
    kept_float: tuple[str, ...] = ()  # names of the layers that stay in float
    # Layers whose kernels must come out as int8, where the scheme stores kernels so ("conv1", or a variable's name,
    # "conv1/kernel").
    expected: tuple[str, ...] = ()
    float_outputs: tuple[str, ...] = ()  # names of the outputs whose softmax is computed in float, on purpose
    notes: Mapping[str, Any] = field(default_factory=dict)  # how the scheme was found, as JSON values
