"""The families of models of docs/families.md: networks, their images, and one row of the table."""

import functools
import importlib.util
from types import ModuleType
from typing import Any


@functools.cache
def of_keras(keras: Any, name: str) -> ModuleType:
    """Return a copy of one of these modules whose `keras` is this one: tf_keras (Keras 2), or keras (Keras 3)."""
    spec = importlib.util.find_spec(f"{__name__}.{name}")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.keras = keras  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
    return module
