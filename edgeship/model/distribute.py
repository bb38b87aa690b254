"""Training on several devices or machines: the strategy, each worker's share of a batch, and what workers agree on.

Every worker runs the same program. The gradients of a step are summed over the replicas, so all hold the same weights;
what each replica keeps for itself (batch norm statistics, ranges that follow the data) becomes the mean of all where
`synchronize` is called and wherever it is read. The first worker, the chief, writes the files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.cluster import Cluster, read_cluster
from edgeship.core.errors import ConfigError, RuntimeFailure

MIRRORED = "mirrored"
# How TensorFlow says that another worker is gone, or silent for longer than the timeout.
LOST = (
    tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError, tf.errors.CancelledError,
)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which replicas of all are this worker's."""

    replicas: int  # in all
    first: int
    local: int

    def rows(self, size: int) -> slice:
        """This worker's rows of a batch of `size`, which its replicas divide evenly."""
        per_replica = size // self.replicas
        return slice(self.first * per_replica, (self.first + self.local) * per_replica)

    def check_divides(self, size: int, what: str) -> None:
        """Raises ConfigError."""
        if size % self.replicas:
            raise ConfigError(
                f"{what}: expected a multiple of the {self.replicas} replicas that share it, found {size:,}; change it"
            )


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The processes that train together, this one among them."""

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None  # None: this process alone

    @property
    def count(self) -> int:
        """How many processes there are."""
        return len(self.cluster.addresses) if self.cluster is not None else 1

    @property
    def is_chief(self) -> bool:
        """Does this process write the files?"""
        return self.cluster is None or self.cluster.index == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Models and optimizers made in here are shared by all workers. Raises RuntimeFailure."""
        with self._losses_as_errors(), self.strategy.scope():
            yield

    def wait(self) -> None:
        """Return when every worker has called this. Raises RuntimeFailure."""
        with self.scope():
            all_sum(np.ones(1))

    @contextlib.contextmanager
    def _losses_as_errors(self) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            if self.cluster is None:
                raise
            raise RuntimeFailure(
                f"{self.cluster.name}: another worker has ended or is silent ({error.message.splitlines()[0][:300]}); "
                "see what it said, then start every worker again: training continues from the last checkpoint"
            ) from error


def start_workers(strategy: str, *, timeout_seconds: float) -> Workers:
    """The workers for `train.strategy`: "none", "mirrored" (every GPU here, or every logical CPU device where there is
    none), or "multi-worker" (those of TF_CONFIG, which is waited for).

    To be called before anything is computed, since TensorFlow takes other machines on at its start only.

    Raises:
        ConfigError: TF_CONFIG and the strategy do not go together.
        RuntimeFailure: a worker did not come.
    """
    cluster = read_cluster(strategy)
    if cluster is not None:
        return Workers(strategy=_multi_worker(cluster, timeout_seconds), cluster=cluster)
    return Workers(strategy=_mirrored() if strategy == MIRRORED else tf.distribute.get_strategy())


def share_of(strategy: tf.distribute.Strategy) -> Share:
    """This worker's share of the replicas."""
    own: list[int] = []

    def record(context: Any) -> tf.Tensor:
        own.append(context.replica_id_in_sync_group)
        return tf.constant(0)

    strategy.experimental_distribute_values_from_function(record)
    return Share(replicas=strategy.num_replicas_in_sync, first=own[0], local=len(own))


def per_replica(strategy: tf.distribute.Strategy, values: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """A tuple of arguments for each replica of this worker, as the one tuple that `strategy.run` takes."""
    return tuple(_one_each(strategy, parts) for parts in zip(*values, strict=True))


def _one_each(strategy: tf.distribute.Strategy, parts: Sequence[Any]) -> Any:
    following = iter(parts)
    return strategy.experimental_distribute_values_from_function(lambda _: next(following))


def all_sum(values: np.ndarray) -> np.ndarray:
    """The sum of every worker's `values` (float64); all workers must call it, in the same order."""
    strategy = tf.distribute.get_strategy()
    first = share_of(strategy).first

    def own(context: Any) -> tf.Tensor:
        return tf.constant(values if context.replica_id_in_sync_group == first else np.zeros_like(values))

    parts = strategy.experimental_distribute_values_from_function(own)
    total: np.ndarray = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
    return total


def synchronize(model: tf_keras.Model) -> None:
    """Give every replica the mean of what each keeps for itself; all workers must call it."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for variable in model.variables:
        if variable.synchronization == tf.VariableSynchronization.ON_READ:
            variable.assign(variable.read_value())


# One strategy of a kind per process: what two of them exchange would be taken for one another's.
@functools.cache
def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache
def _multi_worker(cluster: Cluster, timeout_seconds: float) -> tf.distribute.Strategy:
    cluster.meet(timeout_seconds=timeout_seconds)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout_seconds)
    # Should a worker end between having been met and joining, TensorFlow waits for it for ever, deaf to Ctrl-C and to
    # every thread of Python's; this timer is not one of Python's.
    faulthandler.dump_traceback_later(timeout_seconds, exit=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    finally:
        faulthandler.cancel_dump_traceback_later()
    # TensorFlow's own handler takes note of SIGTERM and goes on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return strategy
