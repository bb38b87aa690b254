"""Examples: what a model of any kind is run on. Arrays in memory, or images that are read when they are asked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.core.artifact import Preprocessing
from edgeship.core.errors import DataError
from edgeship.data.images import Images
from edgeship.data.preprocess import preprocess

Batch = tuple[np.ndarray, ...]  # one array per model input, in the model's order, examples along the first axis


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Inputs of a model, and targets where there are any.

    `read` takes positions, int64 (k,), and returns one array per model input, float32 or integer, each (k, ...).
    """

    read: Callable[[np.ndarray], Batch]
    count: int
    targets: np.ndarray | None = None  # (count, ...): class numbers, values, masks

    def __post_init__(self) -> None:
        if self.targets is not None and len(self.targets) != self.count:
            raise DataError(
                f"targets: expected one for each of the {self.count:,} examples, found {len(self.targets):,}; the "
                "inputs and the targets do not belong together"
            )

    def __len__(self) -> int:
        return self.count

    def first(self, count: int) -> Examples:
        """Return the first `count` examples, or all where there are fewer."""
        count = min(count, self.count)
        return Examples(
            read=self.read, count=count, targets=None if self.targets is None else self.targets[:count]
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all inputs in order, `size` examples at a time."""
        for start in range(0, self.count, size):
            yield self.read(np.arange(start, min(start + size, self.count)))

    def number_of_batches(self, size: int) -> int:
        """Return how many `batches` yields."""
        return math.ceil(self.count / size)


def examples_of_images(images: Images, spec: Preprocessing) -> Examples:
    """Return labelled images as examples: each is read and preprocessed when it is asked for.

    Raises:
        DataError: when they are read, for an image that cannot be.
    """
    return Examples(
        read=lambda positions: (preprocess(images.select(positions).images, spec),), count=len(images),
        targets=images.labels,
    )


def examples_of_arrays(inputs: Batch, targets: np.ndarray | None = None) -> Examples:
    """Return arrays in memory as examples.

    Args:
        inputs: one array per model input, in the model's order, all of one length.

    Raises:
        DataError: no arrays, or arrays of different lengths.
    """
    lengths = sorted({len(array) for array in inputs})
    if len(lengths) != 1 or lengths == [0]:
        raise DataError(
            f"inputs: expected arrays with the same number of examples, one or more, found {lengths or 'none'}"
        )
    return Examples(
        read=lambda positions: tuple(array[positions] for array in inputs), count=lengths[0], targets=targets
    )


def as_model_takes(batch: Batch) -> Any:
    """Return a batch in the form in which Keras takes it: the array of an only input, a list of several."""
    return batch[0] if len(batch) == 1 else list(batch)


def examples_sha256(examples: Examples, *, size: int = 256) -> str:
    """Return the hexadecimal SHA-256 over all inputs and targets, with their shapes and types."""
    digest = hashlib.sha256()
    for batch in examples.batches(size):
        for array in batch:
            digest.update(f"{array.dtype} {array.shape[1:]}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    if examples.targets is not None:
        digest.update(f"targets {examples.targets.dtype} {examples.targets.shape}\n".encode())
        digest.update(np.ascontiguousarray(examples.targets).tobytes())
    return digest.hexdigest()
