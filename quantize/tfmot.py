"""TensorFlow Model Optimization, imported without Keras 3.

Its pruning (0.8.1) asks for `keras.engine`, which Keras 3 has not. To say so, Python would import all of Keras 3, and
scikit-learn, SciPy and Matplotlib with it: a fifth of the time in which a command starts. Here the answer is the same
at once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _missing(package: str) -> Iterator[None]:
    """Refuse the import of a package that is not imported yet, until the block ends."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # what Python takes for a package that is not there
    try:
        yield
    finally:
        del sys.modules[package]


with _missing("keras"):
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_wrapper

__all__ = ["quantize_wrapper", "tfmot"]
