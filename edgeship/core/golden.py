"""golden.npz: how its arrays are called.

It has `inputs`, `float_outputs` and `expected/<artifact>`, one example per row, and of a classifier with a test split
`test_float_top1`. Where a model has several inputs or outputs, the others are `inputs/1`, `inputs/2` and so on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

INPUTS, FLOAT_OUTPUTS, TEST_FLOAT_TOP1 = "inputs", "float_outputs", "test_float_top1"
EXPECTED_PREFIX = "expected/"


def numbered(key: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of several tensors under their names."""
    return {name_of(key, place): array for place, array in enumerate(arrays)}


def name_of(key: str, place: int) -> str:
    """Return the name of the array of the tensor at `place`."""
    return key if place == 0 else f"{key}/{place}"


def count_of(key: str, names: Collection[str]) -> int:
    """Return how many tensors have arrays under `key`."""
    count = 0
    while name_of(key, count) in names:
        count += 1
    return count
