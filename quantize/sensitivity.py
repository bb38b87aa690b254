"""Which layer costs what: the network in float but for one layer, held against float on calibration images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.artifact import Preprocessing
from edgeship.core.integers import sqnr_db
from edgeship.core.progress import track
from edgeship.data import Images, preprocessed_batches
from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.ranges import Mode, Range
from edgeship.quantize.simplifying.rewrites import activation_kind
from edgeship.quantize.weights import SymmetricWeights

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What quantizing one layer alone does to the network's answers."""

    layer: str
    has_weights: bool  # its kernel and its result are rounded, or its result alone
    sqnr_db: float | None  # signal to quantization noise at the logits; None: no difference at all
    agreement: float  # share of images with the same top-1


@dataclass(frozen=True)
class _Part:
    """A layer's kernel and the range of its result; either may be missing."""

    layer: str
    weights: SymmetricWeights | None
    result: Range | None


def measure(quantized: QuantizedModel, images: Images, *, spec: Preprocessing) -> list[LayerCost]:
    """The cost of every layer, most expensive first (lowest SQNR).

    The noise is taken at the logits where the model ends in a softmax: behind it, confident answers hide it.

    Args:
        quantized: a calibrated model; on return it is as it was, every range frozen.
        images: calibration images; never the test split.
    """
    network = logits_of(quantized.model)
    parts = [part for part in _parts(quantized) if part.weights is not None or part.result in network.layers]
    batches = [tf.constant(batch) for batch in preprocessed_batches(images, spec, size=BATCH)]
    costs = []
    ends = _ends(network)
    try:
        switch(parts, on=None)
        reference = np.clip(_answers(network, batches), *ends)
        for part in track(iter(parts), label="sensitivity", total=len(parts)):
            switch(parts, on=part)
            answers = np.clip(_answers(network, batches), *ends)
            costs.append(LayerCost(
                layer=part.layer, has_weights=part.weights is not None,
                sqnr_db=sqnr_db(reference, answers),
                agreement=float(np.mean(reference.argmax(-1) == answers.argmax(-1))),
            ))
    finally:
        for part in parts:
            _set(part, on=True)
    return sorted(costs, key=lambda cost: np.inf if cost.sqnr_db is None else cost.sqnr_db)


def switch(parts: list[_Part], *, on: _Part | None) -> None:
    """Let one part compute on integers and all others in float."""
    for part in parts:
        _set(part, on=False)
    if on is not None:
        _set(on, on=True)


def logits_of(model: tf_keras.Model) -> tf_keras.Model:
    """The model up to its final softmax; the model itself where it does not end in one."""
    tensor = model.outputs[0]
    for _ in range(2):  # the range behind the softmax, then the softmax
        layer = maker_of(tensor)
        softmax = type(layer) is layers.Softmax or (
            type(layer) is layers.Activation and activation_kind(layer.activation) == "softmax"
        )
        if not softmax and not isinstance(layer, Range):
            return model
        tensor = read_by(node_of(tensor))[0]
        if softmax:
            return tf_keras.Model(model.inputs, tensor)
    return model


def _ends(network: tf_keras.Model) -> tuple[float, float]:
    """What of the logits counts: what their range holds, where it leaves out what the softmax does not tell apart."""
    last = maker_of(network.outputs[0])
    if not isinstance(last, Range) or not last.window.bounds_something:
        return -np.inf, np.inf
    return float(last.minimum), float(last.maximum)


def _answers(network: tf_keras.Model, batches: list[Any]) -> np.ndarray:
    """Run eagerly: what is rounded is Python state, and tracing anew for every layer would take longer."""
    return np.concatenate([np.asarray(network(batch, training=False)) for batch in batches])


def _parts(quantized: QuantizedModel) -> list[_Part]:
    parts, shown = [], set()
    for name, weights in quantized.weights.items():
        result = quantized.results.get(name)
        parts.append(_Part(name, weights, result))
        shown.add(id(result))
    return parts + list(_without_weights(quantized.results, shown))


def _without_weights(results: dict[str, Range], shown: set[int]) -> Iterator[_Part]:
    for name, result in results.items():
        if id(result) not in shown:
            shown.add(id(result))
            yield _Part(name, None, result)


def _set(part: _Part, *, on: bool) -> None:
    if part.weights is not None:
        part.weights.enabled = on
    if part.result is not None:
        part.result.mode = Mode.FROZEN if on else Mode.OFF
