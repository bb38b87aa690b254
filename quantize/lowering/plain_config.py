"""A layer's configuration without what only training and the first weights need: that may be classes of the user's."""

from __future__ import annotations

from typing import Any

from edgeship.model.keras2 import layers_of
from edgeship.model.set_aside import set_aside
from edgeship.quantize.lowering.kinds import is_keras_class

# Regularizers add to the loss of the float training alone, and the weights are set afterwards.
NOT_NEEDED = ("_regularizer", "_initializer")
# Keras' own hold in quantization-aware training too, as far as nothing is folded into the weights.
KERASES_ALONE = "_constraint"


def plain_config(layer: Any, kind: type) -> dict[str, Any]:
    """`kind.get_config` of a layer, without initializers, regularizers, and constraints that are not Keras' own.

    A configuration with a class of the user's in it could be loaded only where that class is, and not written at all
    where it has no `get_config()`.
    """
    with set_aside(layers_of(layer), _not_needed):
        config: dict[str, Any] = kind.get_config(layer)  # type: ignore[attr-defined]
    return config


def _not_needed(key: str, value: Any) -> bool:
    return key.endswith(NOT_NEEDED) or (key.endswith(KERASES_ALONE) and not is_keras_class(type(value)))
