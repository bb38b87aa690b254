"""Batches for training and scoring, made by threads of tf.data while the network computes.

What a batch holds depends on its number alone: the order on (seed, epoch), the augmentation on (seed, step). So a run
that was interrupted continues at the very step, and every worker can make its own rows of a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from edgeship.core.artifact import Preprocessing
from edgeship.data import Images, normalized, preprocess, squares
from edgeship.model.augment import augment
from edgeship.model.distribute import Share

# Batches that are made at once and batches that lie ready. Within a batch the images are decoded by as many threads as
# there are cores, so two at once keep them busy where one batch's last image is waited for; each costs memory.
MADE_AT_ONCE = 2
LIE_READY = 2

Arrays = tuple[np.ndarray, ...]
Make = Callable[[int], Arrays]


@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """The batches of a training run by step number; every worker's `rows` of them."""

    images: Images
    spec: Preprocessing
    batch_size: int  # of all replicas together
    augmentation: str
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_orders", _Orders(len(self.images), self.seed))

    @property
    def size(self) -> int:
        """Images per step: whole batches only, since a last small one would disturb batch norm statistics."""
        return min(self.batch_size, len(self.images))

    @property
    def steps_per_epoch(self) -> int:
        """At least 1."""
        return max(1, len(self.images) // self.batch_size)

    def rows(self, step: int, rows: slice = slice(None)) -> Arrays:
        """(float32 images `(n, size, size, channels)`, int64 labels `(n,)`) of `rows` of the batch of `step`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order: np.ndarray = self._orders.of(epoch)  # type: ignore[attr-defined]
        chosen = np.sort(order[position * self.batch_size : (position + 1) * self.batch_size])
        generator = np.random.default_rng([self.seed, step, 1])
        # Varied before they are scaled: the same result from a quarter of the bytes.
        pixels = squares(self.images.images[chosen[rows]], self.spec)
        varied = augment(pixels, self.augmentation, generator, whole=len(chosen), rows=rows)
        return normalized(varied, self.spec), self.images.labels[chosen[rows]]

    def from_step(self, first: int, stop: int, *, share: Share) -> Iterator[list[Any]]:
        """Steps `first` to `stop`: for each replica of this worker (images, labels). Raises DataError."""
        return prefetched(
            lambda step: self.rows(step, share.rows(self.size)), range(first, stop),
            (tf.float32, tf.int64), replicas=share.local,
        )


def scoring_batches(
    images: Images, spec: Preprocessing, *, batch_size: int, share: Share
) -> Iterator[list[Any]]:
    """All images in order: for each replica (images, labels, weights); the last batch is filled up at weight 0.

    Every batch is of the same size, so that one graph does and every replica takes part in every step.
    """
    per_replica = -(-min(batch_size, len(images)) // share.replicas)
    size = per_replica * share.replicas

    def make(step: int) -> Arrays:
        own = np.arange(step * size, (step + 1) * size)[share.rows(size)]
        chosen = own[own < len(images)]
        batch = np.zeros((len(own), spec.image_size, spec.image_size, spec.channels), np.float32)
        labels, weights = np.zeros(len(own), np.int64), np.zeros(len(own), np.float32)
        batch[: len(chosen)] = preprocess(images.images[chosen], spec)
        labels[: len(chosen)], weights[: len(chosen)] = images.labels[chosen], 1.0
        return batch, labels, weights

    steps = -(-len(images) // size)
    return prefetched(make, range(steps), (tf.float32, tf.int64, tf.float32), replicas=share.local)


def prefetched(make: Make, steps: range, dtypes: tuple[Any, ...], *, replicas: int) -> Iterator[list[Any]]:
    """`make(step)` for each of `steps`, in order, made ahead by threads; each array is cut into `replicas` parts.

    An exception of `make` is raised here as it was.
    """
    failures: list[BaseException] = []

    def guarded(step: np.ndarray) -> Arrays:
        try:
            return make(int(step))
        except BaseException as error:  # tf.data would hand over its text only
            failures.append(error)
            raise

    options = tf.data.Options()
    # Its own threads: those of the network's operations must not wait behind a decoder.
    options.threading.private_threadpool_size = MADE_AT_ONCE + 1
    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.range(steps.start, steps.stop).map(
            lambda step: tf.numpy_function(guarded, [step], dtypes), num_parallel_calls=MADE_AT_ONCE, deterministic=True
        ).prefetch(LIE_READY).with_options(options)
        made = iter(dataset)
    while True:
        try:
            arrays = next(made)
        except StopIteration:
            return
        except tf.errors.OpError:
            if failures:
                raise failures[0] from None
            raise
        yield [arrays] if replicas == 1 else list(zip(*(tf.split(array, replicas) for array in arrays), strict=True))


class _Orders:
    """The order of the images in an epoch; the last ones are kept, since batches of two epochs are made at once."""

    def __init__(self, images: int, seed: int) -> None:
        self.images, self.seed = images, seed
        self._by_epoch: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def of(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._by_epoch:
                self._by_epoch = {key: value for key, value in self._by_epoch.items() if key == epoch - 1}
                self._by_epoch[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.images)
            return self._by_epoch[epoch]
