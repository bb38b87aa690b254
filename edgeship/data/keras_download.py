"""Letting the Keras loader download a dataset: the one place of the data package that needs TensorFlow."""

from __future__ import annotations

import importlib

import numpy as np

from edgeship.core.errors import DataError

Arrays = tuple[np.ndarray, np.ndarray]


def keras_download(name: str, *, instead: str) -> tuple[Arrays, Arrays]:
    """`(x_train, y_train), (x_test, y_test)` of `tf_keras.datasets.<name>.load_data()`.

    Raises:
        DataError: no TensorFlow here, or the download failed; `instead` says what else the reader can do.
    """
    try:
        # By name, so that `validate`, which reads images where there is no TensorFlow, depends on none.
        datasets = importlib.import_module("tf_keras.datasets")
        train, test = getattr(datasets, name).load_data()
    # Keras raises a bare Exception when a download fails.
    except Exception as error:
        raise DataError(
            f"{name}: expected the dataset on this machine or a download by Keras, which failed "
            f"({type(error).__name__}: {error}); {instead}"
        ) from error
    return train, test
