"""The promises about a quantized file, checked on the written bytes rather than on what the converter said.

Each check answers with sentences, one per broken promise; an empty list means the promise holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from edgeship.core.config import FULL, PAIR_SAFE, PER_CHANNEL, PER_TENSOR
from edgeship.core.errors import ExportError
from edgeship.core.integers import SHIFTS
from edgeship.core.schemes import FAKE_QUANTIZED, SCHEMES
from edgeship.core.text import some
from edgeship.export.tflite.early_rounding import MOVE_KINDS
from edgeship.export.tflite.names import layer_of
from edgeship.graph import Graph, Operation, Tensor, read_onnx, read_tflite
from edgeship.graph.kinds import CONVOLUTIONS, TFLITE_CONVERSIONS, TRANSPOSED_CONVOLUTIONS
from edgeship.graph.rules import bias_scale_holds, has_sane_scales, output_channels, relu_results, wastes_codes
from edgeship.graph.saturation import unsafe_layers

# Dtype of the activations -> dtypes that an operation may work on; shapes and axes are int32.
# In integer files a transposed convolution is a plain one (quantize/simplifying/transposed.py).
CHECKED_CONVOLUTIONS = CONVOLUTIONS - TRANSPOSED_CONVOLUTIONS
INTEGER_TYPES = {"int8": ("int8", "int32"), "int16": ("int8", "int16", "int32", "int64")}


def check_tflite(
    content: bytes, *, name: str, scheme: str, layers: Collection[str] = (), kept_float: Collection[str] = (),
    weight_bits: int = 8, weight_range: str = FULL, weight_scales: str = PER_CHANNEL,
    float_outputs: Collection[str] = (),
) -> None:
    """Hold a TFLite file against every promise of its scheme.

    Args:
        layers: the names of the Keras model's layers, after which the file's tensors are named.
        kept_float: those that stay in float; what converts to and from float around them may too.
        weight_bits: 8, or 7 for weights of +-63.
        weight_range: "pair-safe" for weights of which no two neighbours saturate 16 bits.
        weight_scales: "per-channel", or "per-tensor" for one scale per kernel.
        float_outputs: outputs whose softmax is computed in float, on purpose.

    Raises:
        ExportError: naming the file and every broken promise.
    """
    graph = read_tflite(content, where=Path(name))
    promised = SCHEMES[scheme]
    broken = _weight_dtypes(graph, promised.weights, layers, kept_float) + _sane_scales(graph)
    if promised.quantizes_weights:
        broken += _weight_scales(graph, CHECKED_CONVOLUTIONS, weight_scales) + _weight_codes(graph, weight_bits)
        broken += _pairs(graph, weight_range)
    if promised.integer:
        floats = frozenset(
            operation.name for operation in graph.operations
            if (
                operation.kind not in TFLITE_CONVERSIONS and not _ends_with_move(graph, operation, layers)
                and layer_of(operation.outputs[0], layers) in set(kept_float)
            )
            or (operation.kind == "SOFTMAX" and operation.outputs[0] in float_outputs)
        )
        broken += _only_integers(graph, INTEGER_TYPES[promised.activations], floats)
        broken += _only_floats(graph, floats) + _rounds_inside(graph, floats, layers)
        broken += _no_requantization(graph, floats) + _bias_scales(graph)
    if promised.source == FAKE_QUANTIZED:
        # The converter's own calibration decides for itself.
        broken += _relu_zero_points(graph) + _weight_scales(graph, {"FULLY_CONNECTED"}, weight_scales)
    _raise_if_any(name, broken)


def check_onnx(
    content: bytes, *, name: str, activations: str, weights: str, weight_bits: int = 8, weight_range: str = FULL,
    weight_scales: str = PER_CHANNEL, float_weights: int = 0, layers: Collection[str] = (),
    kept_float: Collection[str] = (), float_outputs: Collection[str] = (),
) -> None:
    """Hold an integer ONNX file against every promise: types, scales of weights and biases, no Pad in float.

    Args:
        layers: the names of the Keras model's layers, after which the file's tensors are named.
        kept_float: those that stay in float.
        float_weights: how many convolutions and matrix products stay in float: as many as in the TFLite file.
        float_outputs: outputs whose softmax is computed in float, on purpose.

    Raises:
        ExportError: naming the file and every broken promise.
    """
    graph = read_onnx(content, where=Path(name))
    broken = [
        f"{operation.name}: an explicit Pad is left, which stays in float"
        for operation in graph.operations
        if operation.kind == "Pad" and graph.tensors[operation.inputs[0]].dtype == "float32"
        and layer_of(operation.outputs[0], layers) not in set(kept_float)
    ]
    floats = [item.operation.name for item in graph.weighted_operations() if item.weights.dtype == "float32"]
    if len(floats) != float_weights:
        broken.append(
            f"expected {float_weights} operations of float32 weights, not {weights}; found {len(floats)}: "
            f"{', '.join(floats[:5])}"
        )
    for weighted in graph.weighted_operations():
        if weighted.weights.dtype not in (weights, "float32"):
            broken.append(f"{weighted.operation.name}: weights are {weighted.weights.dtype}, not {weights}")
        if weighted.bias is not None and weighted.bias.dtype != "int32" and weighted.weights.dtype == weights:
            broken.append(f"{weighted.operation.name}: bias is {weighted.bias.dtype}, not int32")
    for tensor in (*graph.inputs, *graph.outputs):
        wanted = "float32" if tensor in float_outputs else activations
        if graph.tensors[tensor].dtype != wanted and not float_weights:
            broken.append(f"{tensor}: {graph.tensors[tensor].dtype}, not {wanted}")
    broken += _weight_scales(graph, CHECKED_CONVOLUTIONS, weight_scales) + _weight_codes(graph, weight_bits)
    broken += _pairs(graph, weight_range) + _bias_scales(graph) + _sane_scales(graph)
    _raise_if_any(name, broken)


def quantized_layers(content: bytes, *, name: str, layers: Collection[str]) -> tuple[str, ...]:
    """The layers whose kernels a TFLite file stores as int8, in the file's order."""
    graph = read_tflite(content, where=Path(name))
    owners = (
        layer_of(item.weights.name, layers) or item.weights.name
        for item in graph.weighted_operations() if item.weights.dtype == "int8"
    )
    return tuple(dict.fromkeys(owners))


def float_weighted(content: bytes, *, name: str) -> int:
    """How many convolutions and matrix products of a TFLite file have float32 weights."""
    graph = read_tflite(content, where=Path(name))
    return sum(item.weights.dtype == "float32" for item in graph.weighted_operations())


def _raise_if_any(name: str, broken: list[str]) -> None:
    if broken:
        raise ExportError(f"{name}: not the file it must be: {some(broken, by='; ')}")


def _weight_dtypes(graph: Graph, dtype: str, layers: Collection[str], kept_float: Collection[str]) -> list[str]:
    return [
        f"{item.operation.name}: weights are {item.weights.dtype}, not {dtype}"
        for item in graph.weighted_operations()
        if item.weights.dtype != dtype and layer_of(item.weights.name, layers) not in set(kept_float)
    ]


def _weight_codes(graph: Graph, bits: int) -> list[str]:
    """The narrow range: 8 bits are +-127, 7 bits +-63. A bias has other limits."""
    broken, limit = [], 2 ** (bits - 1) - 1
    for item in graph.weighted_operations():
        if item.weights.data is None or item.weights.dtype not in ("int8", "uint8"):
            continue
        codes = item.weights.data.astype(np.int16) - SHIFTS.get(item.weights.dtype, 0)
        if (largest := int(np.abs(codes).max())) > limit:
            broken.append(f"{item.operation.name}: a weight is {largest}, beyond the +-{limit} of {bits} bits")
    return broken


def _pairs(graph: Graph, weight_range: str) -> list[str]:
    """Pair-safe weights: no two neighbours, as the file's own products have them, can pass 16 bits together."""
    return [] if weight_range != PAIR_SAFE else [
        f"{layer.operation}: {layer.unsafe_pairs} of {layer.pairs} pairs of weights can saturate 16 bits"
        for layer in unsafe_layers(graph)
    ]


def _ends_with_move(graph: Graph, operation: Operation, layers: Collection[str]) -> bool:
    """A layer kept in float whose last operation is a move is rounded in front of it (tflite/early_rounding.py).

    A move of integers whose result the layer itself computes with in float is none of these.
    """
    (result, *_), consumers = operation.outputs, graph.consumers
    back_in_float = [
        reader for conversion in consumers.get(result, ()) if conversion.kind == "DEQUANTIZE"
        for reader in consumers.get(conversion.outputs[0], ())
    ]
    layer = layer_of(result, layers)
    return operation.kind in MOVE_KINDS and graph.tensors[result].dtype == "int8" and all(
        layer_of(reader.outputs[0], layers) != layer for reader in back_in_float
    )


def _only_integers(graph: Graph, types: Collection[str], floats: Collection[str]) -> list[str]:
    return [
        f"{operation.kind} {operation.name} has the {graph.tensors[name].dtype} tensor {name}"
        for operation in graph.operations
        if operation.name not in floats and operation.kind not in TFLITE_CONVERSIONS
        for name in (*operation.inputs, *operation.outputs)
        if name and graph.tensors[name].dtype not in types
    ]


def _only_floats(graph: Graph, floats: Collection[str]) -> list[str]:
    """What is kept in float works on no quantized tensor; shapes and axes are integers without a grid."""
    return [
        f"{operation.kind} {operation.name} is kept in float, but has the {graph.tensors[name].dtype} tensor {name}"
        for operation in graph.operations if operation.name in floats
        for name in (*operation.inputs, *operation.outputs)
        if name and graph.tensors[name].scales is not None
    ]


def _rounds_inside(graph: Graph, floats: Collection[str], layers: Collection[str]) -> list[str]:
    """A kept layer's own result that it reads again as what is left of it after rounding."""
    broken = []
    for operation in graph.operations:
        for name in operation.inputs if operation.name in floats else ():
            conversions = [graph.producers.get(name)]
            if conversions[0] is not None and conversions[0].kind == "DEQUANTIZE":
                conversions.append(graph.producers.get(conversions[0].inputs[0]))
            if len(conversions) < 2 or conversions[1] is None or conversions[1].kind != "QUANTIZE":
                continue
            maker, layer = conversions[1].inputs[0], layer_of(operation.outputs[0], layers)
            if layer is not None and layer == layer_of(maker, layers):
                broken.append(f"{layer} is kept in float, but rounds {maker} inside")
    return broken


def _no_requantization(graph: Graph, floats: Collection[str]) -> list[str]:
    """A conversion belongs behind or in front of an operation that is kept in float, and nowhere else."""
    broken = []
    for operation in graph.operations:
        producer = graph.producers.get(operation.inputs[0]) if operation.inputs else None
        readers = graph.consumers.get(operation.outputs[0], ())
        if operation.kind == "QUANTIZE" and (producer is None or producer.name not in floats):
            broken.append(f"a stray QUANTIZE at {operation.outputs[0]}")
        if operation.kind == "DEQUANTIZE" and not (readers and all(reader.name in floats for reader in readers)):
            broken.append(f"a stray DEQUANTIZE at {operation.outputs[0]}")
    return broken


def _weight_scales(graph: Graph, kinds: Collection[str], wanted: str) -> list[str]:
    """One scale per output channel or per kernel, symmetric: every zero point 0, or 128 where weights are uint8."""
    broken = []
    for weighted in graph.weighted_operations():
        if weighted.operation.kind not in kinds or not weighted.weights.is_integer:
            continue
        weights, name = weighted.weights, weighted.operation.name
        channels = output_channels(weighted)
        found = 0 if weights.scales is None else len(weights.scales)
        if found != (1 if wanted == PER_TENSOR else channels):
            broken.append(f"{name}: {found} weight scales for {channels} output channels, not {wanted}")
        elif np.any(weights.zero_points != SHIFTS.get(weights.dtype, 0)):
            broken.append(f"{name}: weights are not symmetric")
    return broken


def _bias_scales(graph: Graph) -> list[str]:
    """Bias scale = input scale x weight scale, and no bias near the end of its integers."""
    broken = []
    for weighted in graph.weighted_operations():
        if weighted.bias is None or not weighted.weights.is_integer:
            continue
        data, weights, bias = weighted.input, weighted.weights, weighted.bias
        name = weighted.operation.name
        if data.scales is None or weights.scales is None or bias.scales is None:
            broken.append(f"{name}: its input, weights or bias has no scale")
        elif not bias_scale_holds(bias.scales, data.scales, weights.scales):
            broken.append(f"{name}: its bias scale is not input scale x weight scale")
        if _wraps_around(bias):
            broken.append(f"{name}: a bias does not fit {bias.dtype} (is an output channel dead?)")
    return broken


def _wraps_around(bias: Tensor) -> bool:
    """Whether a value is at an end of its integers: it came from beyond."""
    if bias.data is None or bias.data.dtype.kind != "i":
        return False
    limits = np.iinfo(bias.data.dtype)
    return bool(np.any((bias.data <= limits.min + 1) | (bias.data >= limits.max)))


def _sane_scales(graph: Graph) -> list[str]:
    return [
        f"{tensor.name}: a scale is zero, denormal or not finite"
        for tensor in graph.tensors.values() if not has_sane_scales(tensor)
    ]


def _relu_zero_points(graph: Graph) -> list[str]:
    """After a ReLU half of the codes would be wasted below zero, unless it shares its grid in a concatenation."""
    broken = []
    shared = {
        (float(tensor.scales[0]), int(tensor.zero_points[0])) for tensor in _joined(graph)
        if tensor.scales is not None and tensor.zero_points is not None
    }
    for _, output in relu_results(graph):
        if output.scales is not None and output.zero_points is not None and (
            float(output.scales[0]), int(output.zero_points[0])
        ) in shared:
            continue
        if output.is_integer and (output.zero_points is None or wastes_codes(output)):
            broken.append(f"{output.name}: a ReLU with zero point {output.zero_points}, not -128")
    return broken


def _joined(graph: Graph) -> Iterator[Tensor]:
    """The tensors that are on a concatenation's grid: its result, and what it joins in float where it is kept so."""
    for operation in graph.operations:
        if operation.kind != "CONCATENATION":
            continue
        yield graph.tensors[operation.outputs[0]]
        for name in operation.inputs:
            made_by = graph.producers.get(name)
            if made_by is not None and made_by.kind == "DEQUANTIZE":
                yield graph.tensors[made_by.inputs[0]]
