"""How well a network answers on labelled images; under a strategy the replicas share the images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.data import Images
from edgeship.model.batches import scoring_batches
from edgeship.model.distribute import per_replica, share_of, synchronize

BATCH = 256
Step = Callable[[Any], tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a network answers."""

    accuracy: float  # share of the images whose label has the largest probability
    loss: float  # mean cross-entropy with the labels, in nats


def accuracy(model: tf_keras.Model, images: Images, *, spec: Preprocessing, batch_size: int = BATCH) -> float:
    """Top-1 share of `images` the model gets right; under a strategy all workers must call it."""
    return score(scoring_step(model), model, images, spec=spec, batch_size=batch_size).accuracy


def scoring_step(model: tf_keras.Model) -> Step:
    """A graph: all replicas' (images, labels, weights) -> float32 (2,): how many are right, the sum of the losses."""
    def replica_step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        probabilities = model(images, training=False)
        right = tf.cast(tf.argmax(probabilities, -1) == labels, tf.float32)
        losses = tf_keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        return tf.stack([tf.reduce_sum(right * weights), tf.reduce_sum(losses * weights)])

    # A partial, since TensorFlow counts how often one piece of code is traced and would warn of many models.
    return tf.function(functools.partial(_of_all_replicas, replica_step))  # type: ignore[no-any-return]


def _of_all_replicas(replica_step: Callable[..., tf.Tensor], batch: Any) -> tf.Tensor:
    strategy = tf.distribute.get_strategy()
    return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=batch), axis=None)


def score(
    step: Step, model: tf_keras.Model, images: Images, *, spec: Preprocessing, batch_size: int = BATCH
) -> Score:
    """The score of `model`, whose `scoring_step` is given; under a strategy all workers must call it."""
    strategy = tf.distribute.get_strategy()
    synchronize(model)  # a replica computes with its own batch norm statistics
    batches = scoring_batches(images, spec, batch_size=batch_size, share=share_of(strategy))
    sums = np.array([step(per_replica(strategy, batch)).numpy() for batch in batches], np.float64).sum(axis=0)
    return Score(accuracy=float(sums[0]) / len(images), loss=float(sums[1]) / len(images))
