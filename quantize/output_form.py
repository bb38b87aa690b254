"""The form of a classifier's output (edgeship/core/output_forms.py), made in its graphs by leaving out their ends.

A fake-quantized network ends in logits, their range, a softmax, and the range of 1/256 steps. What is cut from it
shares the weights and ranges of the whole network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import ConfigError
from edgeship.core.output_forms import AUTO, LOGITS, PROBABILITIES, SoftmaxFacts, joined, softmax_facts
from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.ranges import Range
from edgeship.quantize.simplifying.rebuild import Copies, call, rebuild
from edgeship.quantize.simplifying.rewrites import activation_kind
from edgeship.quantize.window import OPEN


def softmax_outputs(model: tf_keras.Model) -> tuple[int, ...]:
    """Return the places of the outputs that a softmax over the last axis makes, rounded or not."""
    return tuple(place for place, tensor in enumerate(model.outputs) if _is_softmax(maker_of(_unrounded(tensor))))


def check_form(form: str, model: tf_keras.Model) -> None:
    """Refuse a form that a network without a softmax at its end cannot have. Raises ConfigError."""
    if form in (AUTO, PROBABILITIES) or softmax_outputs(model):
        return
    ends = ", ".join(maker_of(_unrounded(tensor)).name for tensor in model.outputs)
    raise ConfigError(
        f"export.output: {form!r} is for a network that ends in a softmax over the last axis; {model.name} ends in "
        f"{ends}; leave export.output out"
    )


class SoftmaxSeen:
    """What a float network's probabilities are on the inputs that pass, of each output that a softmax makes."""

    def __init__(self, model: tf_keras.Model) -> None:
        self._model, self._places = model, softmax_outputs(model)
        self._facts: list[list[SoftmaxFacts]] = [[] for _ in self._places]

    def passed(self, batch: Any) -> Any:
        """Look at the answers to one batch, an array or a list of arrays; returns the batch."""
        if self._places:
            outputs = tf.nest.flatten(self._model(tf.nest.map_structure(tf.constant, batch), training=False))
            for known, place in zip(self._facts, self._places, strict=True):
                known.append(softmax_facts(np.asarray(outputs[place])))
        return batch

    @property
    def facts(self) -> tuple[SoftmaxFacts, ...]:
        """The facts of all that passed, an entry per output; none where no softmax is at the end, or nothing passed."""
        return tuple(joined(known) for known in self._facts if known)


def measure_softmax(model: tf_keras.Model, batches: Iterable[Any]) -> tuple[SoftmaxFacts, ...]:
    """Return what a float network's probabilities are on some inputs, of each output that a softmax makes."""
    seen = SoftmaxSeen(model)
    for batch in batches:
        seen.passed(batch)
    return seen.facts


def float_form(flat: tf_keras.Model, form: str) -> tf_keras.Model:
    """Return the float network whose answers the files of a form give: of "logits" a copy without its softmax."""
    places = softmax_outputs(flat) if form == LOGITS else ()
    if not places:
        return flat
    copies, ends = Copies(), {id(node_of(flat.outputs[place])) for place in places}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        layer = node.layer
        if id(node) not in ends:
            return call(copies, layer, args, kwargs)
        if isinstance(layer, (layers.Softmax, layers.Activation)):
            return args[0]
        linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
        result = linear(*args)
        linear.set_weights(layer.get_weights())
        return result

    made = rebuild(flat, replay)
    made.output_names = flat.output_names
    return made


def for_training(quantized: QuantizedModel, form: str) -> QuantizedModel:
    """Return the network that is calibrated and trained: it ends in its softmax, whatever the files give.

    The softmax's result is rounded only where the files' is: what rounds to 0 has no logarithm to learn from.
    """
    places = softmax_outputs(quantized.model)
    if form == LOGITS:
        for place in places:
            _open(maker_of(_logits(quantized.model.outputs[place])))
    return quantized if form == PROBABILITIES else _ending(quantized, places, _unrounded, flat=quantized.flat)


def _open(layer: Any) -> None:
    """Let the range of logits hold all that is seen, before it is seeded: the files give them as they are."""
    if isinstance(layer, Range):
        layer.window = OPEN


def for_files(quantized: QuantizedModel, form: str) -> QuantizedModel:
    """Return the network whose answers the int8 files of a form give; its ranges are final."""
    if form == LOGITS:
        places = softmax_outputs(quantized.model)
        return _ending(quantized, places, _open_logits, flat=float_form(quantized.flat, form))
    return for_training(quantized, form)


def _ending(
    quantized: QuantizedModel, places: Sequence[int], end: Any, *, flat: tf_keras.Model
) -> QuantizedModel:
    """Return the network with other ends: `end` takes an output's tensor to the one in front of it."""
    model = quantized.model
    outputs = [end(tensor) if place in places else tensor for place, tensor in enumerate(model.outputs)]
    cut = tf_keras.Model(model.inputs, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
    cut.output_names = model.output_names
    left = {id(layer) for layer in cut.layers}
    return dataclasses.replace(
        quantized, model=cut, flat=flat, ranges=[item for item in quantized.ranges if id(item) in left],
        results={name: item for name, item in quantized.results.items() if id(item) in left},
    )


def _unrounded(tensor: Any) -> Any:
    """The tensor in front of a range; the tensor itself where no range makes it."""
    return read_by(node_of(tensor))[0] if isinstance(maker_of(tensor), Range) else tensor


def _logits(tensor: Any) -> Any:
    return read_by(node_of(_unrounded(tensor)))[0]


def _open_logits(tensor: Any) -> Any:
    """The logits on a range that holds all of them, where the one in front of the softmax leaves some out."""
    logits = _logits(tensor)
    windowed = maker_of(logits)
    if not isinstance(windowed, Range) or not windowed.window.bounds_something or windowed.unbounded is None:
        return logits
    low, high = windowed.unbounded
    ends = min(low, float(windowed.minimum)), max(high, float(windowed.maximum))
    return Range(ema_decay=windowed.ema_decay, known=ends, fixed=True, name=windowed.name)(_unrounded(logits))


def _is_softmax(layer: Any) -> bool:
    if type(layer) is layers.Softmax:
        return layer.axis in (-1, len(layer.output_shape) - 1)
    return activation_kind(getattr(layer, "activation", None)) == "softmax"
