"""Attributes of layers that are set aside for a while, so that the layers can be described without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def set_aside(parts: Iterable[Any], unwanted: Callable[[str, Any], bool]) -> Iterator[None]:
    """Let the attributes (name, value) of layers that are unwanted be None until the block ends."""
    removed = [(part, key, value) for part in parts for key, value in vars(part).items() if unwanted(key, value)]
    # Not by setattr, with which Keras keeps account of what a layer owns.
    for part, key, _ in removed:
        object.__setattr__(part, key, None)
    try:
        yield
    finally:
        for part, key, value in removed:
            object.__setattr__(part, key, value)
