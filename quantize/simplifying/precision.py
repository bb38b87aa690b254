"""Networks of other precisions, computed in float32: what integers are made from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tf_keras

from edgeship.model.keras2 import inner_layers
from edgeship.model.precision import ROUNDING

FLOATS = ("float16", "bfloat16", "float64")


@contextmanager
def float32_policy() -> Iterator[None]:
    """Make layers of float32, whatever policy the user's code has left set for the process."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def in_float32(config: Any) -> Any:
    """A layer's configuration with every policy of another float type, its inner layers' too, replaced by float32."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _is_other_float(value) else in_float32(value)
            for key, value in config.items()
        }
    return [in_float32(item) for item in config] if isinstance(config, list) else config


def least_sqnr_db(model: tf_keras.Model) -> float:
    """Signal to noise, at the least, between a model of lower precision and the same network in float32.

    A layer rounds four times (inputs, kernel, bias, result), by 0.42 x 2^-11 in the root mean square in float16, so
    0.84 x 2^-11 in all: 66 dB, 48 dB in bfloat16. Roundings of several layers add up as the root of their number, and
    a network may amplify them: 20 dB.
    """
    rounding = [
        ROUNDING[layer.compute_dtype] for layer in inner_layers(model) if layer.compute_dtype in ROUNDING
    ]
    return -20 * math.log10(max(rounding)) - 10 * math.log10(len(rounding)) - 20 if rounding else math.inf


def _is_other_float(policy: Any) -> bool:
    name = policy.get("config", {}).get("name", "") if isinstance(policy, dict) else str(policy)
    return name.removeprefix("mixed_") in FLOATS
