"""The record of channels that were given other sizes: who compares a layer with the float network's must know them.

In `manifest.json`, under "channel_sizes" of what is said of a scheme:
`{"divisors": [[...], ...], "layers": {layer: which of these its result's channels were divided by}}`. Layers share most
of them: all that is added to one stream has one size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

CHANNEL_SIZES = "channel_sizes"
DIGITS = 5  # of a divisor: off by at most 5e-5 of itself, an eightieth of an int8 step of a full range (1/255)
Sizes = Mapping[str, np.ndarray]  # layer -> what the channels of its result were divided by


def joined(sizes: Sizes, others: Sizes) -> dict[str, np.ndarray]:
    """Return what was divided by one and then by the other."""
    names = dict.fromkeys([*sizes, *others])
    return {name: sizes.get(name, np.ones(1)) * others.get(name, np.ones(1)) for name in names}


def record_of(sizes: Sizes) -> dict[str, Any]:
    """Return the sizes as JSON values."""
    kept: dict[tuple[float, ...], int] = {}
    layers = {}
    for name, own in sizes.items():
        key = tuple(float(f"{value:.{DIGITS}g}") for value in own)
        layers[name] = kept.setdefault(key, len(kept))
    return {"divisors": [list(key) for key in kept], "layers": layers}


def sizes_from(record: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Return the sizes of a record; none for None."""
    if record is None:
        return {}
    return {name: np.array(record["divisors"][place]) for name, place in record["layers"].items()}
