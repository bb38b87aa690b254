"""The answers of a Keras model on one batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras


def predict_batch(model: tf_keras.Model, batch: np.ndarray | list[np.ndarray]) -> Any:
    """Return `model.predict_on_batch(batch)`, without TensorFlow's advice about it.

    Keras makes a new tf.function for each model. TensorFlow counts the functions of all models as one, and from the
    fifth model on it warns that "the function" is traced again and again; nobody could do anything about it.
    """
    with _without_retracing_advice():
        return model.predict_on_batch(batch)


@contextlib.contextmanager
def _without_retracing_advice() -> Iterator[None]:
    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
