"""Layers of Keras 3's own that hold other layers, or statistics, and so are more than their settings and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from tf_keras import layers

from edgeship.model.keras3.inside import build_shapes


class Places(Protocol):
    """What a wrapper needs of the translation that it is part of."""

    def twin_of(self, layer: Any) -> Any: ...

    def keep(self, theirs: list[Any], ours: list[Any], owner: Any) -> None: ...

    def make_constant(self, variables: list[Any]) -> None: ...


def _time_distributed(layer: Any, places: Places) -> Any:
    return layers.TimeDistributed(places.twin_of(layer.layer), name=layer.name)


def _bidirectional(layer: Any, places: Places) -> Any:
    parts = [places.twin_of(part) for part in (layer.forward_layer, layer.backward_layer)]
    made = layers.Bidirectional(parts[0], merge_mode=layer.merge_mode, backward_layer=parts[1], name=layer.name)
    made.build(*build_shapes(layer).values())
    # Keras 2 makes a copy of the layer that it is given.
    places.keep(layer.forward_layer.weights, made.forward_layer.weights, layer)
    places.keep(layer.backward_layer.weights, made.backward_layer.weights, layer)
    return made


def _spectral_normalization(layer: Any, places: Places) -> Any:
    made = layers.SpectralNormalization(
        places.twin_of(layer.layer), power_iterations=layer.power_iterations, name=layer.name
    )
    made.build(*build_shapes(layer).values())
    places.keep([layer.vector_u], [made.vector_u], layer)
    return made


def _normalization(layer: Any, places: Places) -> Any:
    """Its statistics become constants: as weights they would count in Keras 2 only after a call of `adapt()`."""
    places.make_constant(layer.weights)
    values = {key: np.asarray(getattr(layer, key), np.float32).reshape(-1).tolist() for key in ("mean", "variance")}
    return layers.Normalization(axis=layer.axis, invert=layer.invert, dtype="float32", name=layer.name, **values)


# Class of Keras 3 -> how its layer of Keras 2 is made.
WRAPPERS: dict[str, Callable[[Any, Places], Any]] = {
    "TimeDistributed": _time_distributed,
    "Bidirectional": _bidirectional,
    "SpectralNormalization": _spectral_normalization,
    "Normalization": _normalization,
}
