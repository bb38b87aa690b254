"""Classifiers that end in logits: a softmax is put behind them, where the labels and images need probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import computes_its_graph, is_graph, maker_of, node_of, read_by
from edgeship.model.noise import noise_for

NAME = "probabilities"
# Behind these the numbers are the same: which function made them, a layer before says.
PASSING = (layers.Flatten, layers.Reshape, layers.Permute, layers.Dropout, layers.InputLayer)
# float32 softmax over up to a few thousand classes sums to 1 within a few units in the last place per class.
SUM_TOLERANCE = 1e-3


def with_probabilities(model: tf_keras.Model) -> tf_keras.Model:
    """Return a model of one vector of scores with a softmax behind it, where it ends without one; else itself.

    The last layer decides. Of Keras' own layers its activation says whether the numbers are logits ("linear"); what a
    layer of the user's ends in, the answers to noise tell: they are logits where they leave the span from 0 to 1.
    """
    if not ends_in_logits(model):
        return model
    taken = {layer.name for layer in model.layers}
    softmax = layers.Softmax(name=NAME if NAME not in taken else f"{model.output_names[0]}_softmax")
    outputs = model.outputs[0] if computes_its_graph(model) else model(model.inputs[0])
    return tf_keras.Model(model.inputs, softmax(outputs), name=model.name)


def ends_in_logits(model: tf_keras.Model) -> bool:
    """Return whether the scores of a model may be any numbers; False for probabilities, and where nothing tells."""
    last = _last_layer(model) if computes_its_graph(model) else model
    activation = getattr(last, "activation", None)
    if isinstance(last, layers.Softmax):
        return False
    if type(last).__module__.startswith("tf_keras.") and not _is_opaque(last):
        return activation is None or getattr(activation, "__name__", "") == "linear"
    scores = np.asarray(tf_keras.backend.cast(model(noise_for(model.inputs[0]), training=False), "float32"))
    sums_to_one = np.all(np.abs(scores.sum(-1) - 1) <= SUM_TOLERANCE) and scores.min() >= 0
    return bool(not sums_to_one and (scores.min() < 0 or scores.max() > 1))


def _is_opaque(layer: Any) -> bool:
    """Whether a layer of Keras' own runs code or operators that its class does not name."""
    return isinstance(layer, tf_keras.Model | layers.Lambda | layers.Wrapper) or "OpLambda" in type(layer).__name__


def _last_layer(model: tf_keras.Model) -> Any:
    """Return the layer that computes the only output of a graph, inside nested models too."""
    tensor = model.outputs[0]
    while True:
        layer = maker_of(tensor)
        if is_graph(layer) and computes_its_graph(layer) and len(layer.outputs) == 1:
            return _last_layer(layer)
        if not isinstance(layer, PASSING) or not read_by(node_of(tensor)):
            return layer
        tensor = read_by(node_of(tensor))[0]
