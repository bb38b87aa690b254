"""What stands in the place of one layer: parts that are made once, however often the layer is called."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np


class Replacement:
    """What a layer becomes: `apply(*inputs)` builds it, as often as the layer is called, from layers made once."""

    def __init__(
        self, layer: Any, build: Callable[..., Any], weights: dict[str, list[np.ndarray]] | None = None
    ) -> None:
        self._name, self._trainable, self._build, self._weights = layer.name, layer.trainable, build, weights or {}
        self._made: dict[str, Any] = {}
        self._shapes: list[Any] = []
        self.taken: Collection[str] = ()  # names of other layers

    def layer(self, suffix: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The part of this name, made at the first call. "" is the part that keeps the layer's own name."""
        if suffix not in self._made:
            name = f"{self._name}_{suffix}" if suffix else self._name
            if suffix and name in self.taken:
                name = f"{self._name}__{suffix}"
            self._made[suffix] = make(*args, name=name, **kwargs)
        return self._made[suffix]

    def of_shape(self, shape: Any, suffix: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same for a layer that is called on tensors of several shapes: a part for each of them."""
        if shape not in self._shapes:
            self._shapes.append(shape)
        number = self._shapes.index(shape) + 1
        words = [suffix] if number == 1 else [suffix, f"shape{number}"]
        return self.layer("_".join(filter(None, words)), make, *args, **kwargs)

    def apply(self, *inputs: Any) -> Any:
        """The outputs on (new) inputs."""
        return self._build(self, *inputs)

    def load(self) -> None:
        """Give the parts their weights, now that they are built; they train where the layer trained."""
        for suffix, values in self._weights.items():
            self._made[suffix].set_weights(values)
        self._weights = {}
        for part in self._made.values() if not self._trainable else ():
            part.trainable = False


def nothing(layer: Any) -> Replacement:
    """Return what stands for a layer that does nothing in inference."""
    return Replacement(layer, lambda parts, x: x)
