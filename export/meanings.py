"""What the outputs of a network are, read from the layers that make them: text for people who use its files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import maker_of, node_of, read_by

PROBABILITIES = "probabilities, which sum to 1 over the last axis"
LOGITS = "logits over the last axis: a softmax makes probabilities of them, and the largest is the answer"
YES_OR_NO = "probabilities, each from 0 to 1 for itself"
BY_FUNCTION = {"softmax": PROBABILITIES, "sigmoid": YES_OR_NO, "tanh": "values from -1 to 1"}
VALUES = "values as the model computes them"
MOVES = (layers.Flatten, layers.Reshape, layers.Permute)


def meanings_of(model: tf_keras.Model, *, without_softmax: Collection[int] = ()) -> tuple[str, ...]:
    """Return one sentence per output of a lowered network, fake-quantized or not.

    Args:
        without_softmax: the places of the outputs whose softmax the files leave out.
    """
    return tuple(
        LOGITS if place in without_softmax else _meaning(tensor) for place, tensor in enumerate(model.outputs)
    )


def _meaning(tensor: Any) -> str:
    layer = maker_of(tensor)
    # What follows the function only rounds or moves its values.
    while getattr(layer, "rounds_to_grid", False) or isinstance(layer, MOVES):
        tensor = read_by(node_of(tensor))[0]
        layer = maker_of(tensor)
    if isinstance(layer, layers.Softmax):
        return PROBABILITIES
    return BY_FUNCTION.get(getattr(getattr(layer, "activation", None), "__name__", ""), VALUES)
