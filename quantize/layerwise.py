"""Walking a quantized network layer by layer, in float and on integers side by side, on the same examples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from edgeship.core.layer_names import wrapper_name
from edgeship.model.keras2 import arguments_with, read_by
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.ranges import Range
from edgeship.quantize.simplifying.rebuild import nodes_of, readers_of

# Numbers of the largest tensor that are held at once: 256 MB of float32.
LARGEST_TENSOR = 2**26


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """What a weighted layer reads and should answer: one tensor per batch."""

    inputs: list[tf.Tensor]  # on integers, behind layers that are adjusted already
    wanted: list[tf.Tensor]  # the float network's answers


# Adjusts the numbers of a wrapped layer (its kernel, its bias) in place.
Adjust = Callable[[Any, Seen], None]


def adjust_layers(quantized: QuantizedModel, batches: Sequence[Any], adjust: Adjust) -> None:
    """Adjust every weighted layer, from the input to the output, each on what the adjusted ones before it answer.

    A layer that is called more than once has one kernel for several inputs, and stays as it is.

    Args:
        quantized: with final ranges; its kernels and biases are changed in place.
        batches: preprocessed examples, float32; an array each, or a list of them for several inputs.
    """
    wrappers = {wrapper_name(name) for name in quantized.weights}
    model, values = quantized.model, _Values(quantized.model)
    kept = [tf.nest.flatten(batch) for batch in batches]
    for place, tensor in enumerate(model.inputs):
        values.put(tensor, [(tf.constant(batch[place]),) * 2 for batch in kept])
    for node in nodes_of(model):
        layer = node.layer
        pairs = [values.at(node, place) for place in range(len(kept))]
        with _in_float(layer):
            wanted = [_call(node, floats) for floats, _ in pairs]
        if layer.name in wrappers and len(layer.inbound_nodes) == 1:
            inputs = [integers[id(read_by(node)[0])] for _, integers in pairs]
            adjust(layer, Seen(inputs=inputs, wanted=wanted))
        answers = [_call(node, integers) for _, integers in pairs]
        values.put_results(node, wanted, answers)
        values.forget(node)


def examples_that_fit(quantized: QuantizedModel) -> int:
    """Return how many examples can be walked with at once."""
    outputs = [tf.nest.flatten(node.outputs) for node in nodes_of(quantized.model)]
    largest: int = max(math.prod(tensor.shape[1:]) for tensors in outputs for tensor in tensors)
    return max(1, LARGEST_TENSOR // largest)


@contextlib.contextmanager
def _in_float(layer: Any) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if isinstance(layer, Range):
            stack.enter_context(layer.off())
        elif hasattr(layer, "kernel_in_float"):
            stack.enter_context(layer.kernel_in_float())
        yield


def _call(node: Any, tensors: dict[int, Any]) -> Any:
    args, kwargs = arguments_with(node, tensors)
    return node.layer(*args, **kwargs)


class _Values:
    """The float and the integer value of every tensor that is still read, batch by batch."""

    def __init__(self, model: Any) -> None:
        self._left = {tensor: len(nodes) for tensor, nodes in readers_of(model).items()}
        self._pairs: dict[int, list[tuple[Any, Any]]] = {}

    def put(self, tensor: Any, pairs: list[tuple[Any, Any]]) -> None:
        self._pairs[id(tensor)] = pairs

    def put_results(self, node: Any, wanted: list[Any], answers: list[Any]) -> None:
        floats, integers = ([tf.nest.flatten(batch) for batch in batches] for batches in (wanted, answers))
        for place, tensor in enumerate(tf.nest.flatten(node.outputs)):
            self.put(tensor, [(one[place], two[place]) for one, two in zip(floats, integers, strict=True)])

    def at(self, node: Any, batch: int) -> tuple[dict[int, Any], dict[int, Any]]:
        """What a node reads of one batch: by id of the tensor, in float and on integers."""
        pairs = {id(tensor): self._pairs[id(tensor)][batch] for tensor in read_by(node)}
        return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}

    def forget(self, node: Any) -> None:
        """Count a node's reads as done."""
        for tensor in read_by(node):
            self._left[id(tensor)] -= 1
            if not self._left[id(tensor)]:
                self._pairs.pop(id(tensor), None)
