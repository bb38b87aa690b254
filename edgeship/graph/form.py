"""In which form a file has its weights and computes with them, in words: what a scheme made of it."""

from __future__ import annotations

from collections import Counter

from edgeship.graph.held import HeldWeights, held_weights
from edgeship.graph.kinds import DYNAMIC_PRODUCTS, WEIGHTED
from edgeship.graph.records import Graph, WeightedOperation

FLOAT, INTEGER = "float32", "int8"
DYNAMIC = "int8 weights, activations quantized when they are computed"
WIDE = "int8 weights, int16 activations"


def form_of(graph: Graph) -> str:
    """For example "int8", "float16 weights, computed in float32", or "int8, but for 2 of 36 products in float32".

    Products are convolutions, matrix products and what is made of them (attention, recurrent layers), with constant
    weights; "no weights" where there is none.
    """
    forms = Counter(_form(graph, item) for item in graph.weighted_operations())
    forms.update({item.operation.name: _held_form(item) for item in held_weights(graph)}.values())
    if not forms:
        return "no weights"
    (most, _), *others = forms.most_common()
    total = sum(forms.values())
    rest = "; ".join(f"{count} of {total} products in {form}" for form, count in others)
    return f"{most}, but for {rest}" if rest else most


def _held_form(item: HeldWeights) -> str:
    if item.dtype == "float32":
        return FLOAT
    if item.dynamic:
        return DYNAMIC
    return INTEGER if item.integer and item.dtype in ("int8", "uint8") else f"{item.dtype} weights, computed in float32"


def _form(graph: Graph, item: WeightedOperation) -> str:
    weights = item.weights.dtype
    if weights == "float32":
        return FLOAT
    if not item.weights.is_integer:
        return f"{weights} weights, computed in float32"
    if item.operation.kind in DYNAMIC_PRODUCTS:
        return DYNAMIC
    if item.input.is_integer:
        return WIDE if item.input.dtype.endswith("int16") else INTEGER
    # Floats come in: either the kernel is dequantized before it is read, or the operation quantizes its input.
    read = graph.tensors[item.operation.inputs[WEIGHTED[item.operation.kind][1]]]
    return DYNAMIC if read.is_integer else f"{weights} weights, computed in float32"
