"""Known traps: properties of a model file that cost accuracy or speed without any error message.

    find_traps(graph)      every trap that is in the file
    classify(graph)        which operations work on integers, which on floats, which convert between the two

All of it is read from the file. Which operations a runtime really runs as integers is another matter: that
depends on the runtime, its options and the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeship.graph.grids import POSITIONS
from edgeship.graph.kinds import ARITHMETIC, CLIPS, CONVERSIONS, CONVOLUTIONS
from edgeship.graph.records import Graph, Operation, Tensor
from edgeship.graph.rules import bias_scale_holds, has_sane_scales, output_channels, relu_results, wastes_codes
from edgeship.graph.saturation import saturation_of


@dataclass(frozen=True, kw_only=True)
class Trap:
    """One kind of trap in a file: `message` says what it does and what to do; `where` names the places."""

    code: str
    message: str
    where: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The names of a file's operations by what they work on; constants' own operations are left out."""

    integer: tuple[str, ...]
    floating: tuple[str, ...]
    conversions: tuple[str, ...]  # QUANTIZE, DequantizeLinear ...


def classify(graph: Graph) -> Classes:
    """Sort the operations by what the file says they work on.

    In a QDQ file an operation is an integer one when everything it reads comes from a DequantizeLinear and
    everything it writes goes to a QuantizeLinear, with at most a Relu or Clip in between.
    """
    is_integer = _is_integer_tflite if graph.format == "tflite" else _is_integer_onnx
    integer: list[str] = []
    floating: list[str] = []
    conversions: list[str] = []
    for operation in graph.operations:
        if operation.kind in CONVERSIONS:
            conversions.append(operation.name)
        elif operation.kind != "Constant":
            (integer if is_integer(graph, operation) else floating).append(operation.name)
    return Classes(integer=tuple(integer), floating=tuple(floating), conversions=tuple(conversions))


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.startswith(("float", "bfloat", "complex", "unknown"))


def _is_integer_tflite(graph: Graph, operation: Operation) -> bool:
    names = (*operation.inputs, *operation.outputs)
    return not any(_is_float(graph.tensors[name]) for name in names if name)


def _is_integer_onnx(graph: Graph, operation: Operation) -> bool:
    if operation.kind in POSITIONS or operation.kind == "QLinearConcat":
        return True
    return _reads_integers(graph, operation) and all(
        not _is_float(graph.after_quantize(name)) for name in operation.outputs if name
    )


def _reads_integers(graph: Graph, operation: Operation) -> bool:
    if operation.kind in CLIPS and operation.inputs:
        maker = graph.producers.get(operation.inputs[0])
        if maker is not None and maker.kind not in CONVERSIONS | CLIPS:
            return len(graph.consumers[operation.inputs[0]]) == 1 and _reads_integers(graph, maker)
    return not any(
        _is_float(graph.before_dequantize(name))
        for name in operation.inputs
        if name and (operation.kind in ARITHMETIC or not graph.is_constant(name))
    )


def find_traps(graph: Graph) -> tuple[Trap, ...]:
    """Every known trap in the file, none for a plain float model."""
    # Not "has integer operations": a float model has those too, on shapes and indices.
    quantized = any(tensor.is_integer and tensor.scales is not None for tensor in graph.tensors.values())
    quantized = quantized or any(weighted.weights.is_integer for weighted in graph.weighted_operations())
    return tuple(
        Trap(code=code, message=message.format(count=len(where)), where=where)
        for formats, code, message, find in TRAPS
        if quantized and graph.format in formats
        for where in [tuple(dict.fromkeys(find(graph)))]
        if where
    )


def _float_operations(graph: Graph) -> Iterator[str]:
    """Only where activations have grids: a file that stores small weights computes in float by design."""
    tensors = graph.tensors.values()
    if any(tensor.is_integer and tensor.scales is not None and tensor.data is None for tensor in tensors):
        yield from classify(graph).floating


def _int8_activations(graph: Graph) -> Iterator[str]:
    for operation in graph.operations:
        if operation.kind == "QuantizeLinear" and not graph.is_constant(operation.inputs[0]):
            yield from (name for name in operation.outputs[:1] if graph.tensors[name].dtype == "int8")


def _lost_weights(graph: Graph) -> Iterator[str]:
    for weighted in graph.weighted_operations():
        if weighted.input.is_integer and _is_float(weighted.weights):
            yield weighted.operation.name


def _weights_per_tensor(graph: Graph) -> Iterator[str]:
    for weighted in graph.weighted_operations():
        kind, weights = weighted.operation.kind, weighted.weights
        if kind not in CONVOLUTIONS or weights.scales is None or not weights.shape:
            continue
        if weights.scales.size == 1 and output_channels(weighted) not in (None, 1):
            yield weighted.operation.name


def _saturating(graph: Graph) -> Iterator[str]:
    unsigned = {
        item.operation.name for item in graph.weighted_operations()
        if (item.input.dtype, item.weights.dtype) == ("uint8", "int8")
    }
    if unsigned:  # the certificate takes a look at every weight
        yield from (layer.operation for layer in saturation_of(graph).layers if layer.operation in unsigned)


def _explicit_pads(graph: Graph) -> Iterator[str]:
    for operation in graph.operations:
        if operation.kind == "Pad" and _is_integer_onnx(graph, operation):
            yield operation.name


def _shared_constants(graph: Graph) -> Iterator[str]:
    uses = Counter(name for operation in graph.operations for name in operation.inputs if name)
    for operation in graph.operations:
        if operation.kind != "DequantizeLinear" or not graph.is_constant(operation.inputs[0]):
            continue
        if graph.tensors[operation.inputs[0]].dtype == "int8":
            yield from (name for name in (operation.inputs[0], *operation.inputs[2:3]) if uses[name] > 1)


def _relus_above_minimum(graph: Graph) -> Iterator[str]:
    for operation, output in relu_results(graph):
        if graph.format == "tflite" and output.dtype == "int16":
            continue  # symmetric by TFLite's specification of 16-bit activations
        if wastes_codes(output):
            yield operation.name


def _bias_scales(graph: Graph) -> Iterator[str]:
    for weighted in graph.weighted_operations():
        data, weights, bias = weighted.input.scales, weighted.weights.scales, weighted.bias
        if bias is None or not bias.is_integer or bias.scales is None or data is None or weights is None:
            continue
        if not bias_scale_holds(bias.scales, data, weights):
            yield weighted.operation.name


def _conversions_inside(graph: Graph) -> Iterator[str]:
    for operation in graph.operations:
        if operation.kind in CONVERSIONS and not graph.is_constant(operation.inputs[0]):
            at_the_ends = {*graph.inputs, *graph.outputs} & {*operation.inputs, *operation.outputs}
            if not at_the_ends:
                yield operation.name


def _broken_scales(graph: Graph) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.tensors.values() if not has_sane_scales(tensor))


Finder = Callable[[Graph], Iterator[str]]
BOTH, TFLITE, ONNX = ("tflite", "onnx"), ("tflite",), ("onnx",)

# Formats, code, message, and the function that yields the names of the places.
TRAPS: tuple[tuple[tuple[str, ...], str, str, Finder], ...] = (
    (BOTH, "broken-scales",
     "{count} tensors have scales that are zero, negative, denormal or not finite: the file computes nonsense; check "
     "the ranges the model was quantized with",
     _broken_scales),
    (BOTH, "float-operations",
     "{count} operations of a quantized model work on floats; an integer-only device refuses them and others "
     "convert back and forth",
     _float_operations),
    (TFLITE, "conversions-inside",
     "{count} QUANTIZE or DEQUANTIZE operations inside the network: neighbours disagree about a tensor's "
     "grid, which costs time and a rounding each",
     _conversions_inside),
    (ONNX, "int8-activations",
     "{count} activations are int8: ONNX Runtime on x86 leaves convolutions of tensors with several "
     "consumers in float; uint8 with the zero point 128 higher is the same grid and is not affected",
     _int8_activations),
    (ONNX, "lost-weights",
     "{count} operations have float weights beside quantized activations: the weight quantization was lost "
     "(converted from Keras directly?) and ONNX Runtime makes up per-tensor scales at load; convert from the "
     "TFLite file",
     _lost_weights),
    (BOTH, "weights-per-tensor",
     "{count} convolutions have one weight scale for all output channels, which costs accuracy; quantize "
     "weights per channel",
     _weights_per_tensor),
    (ONNX, "u8s8",
     "{count} operations multiply uint8 activations by int8 weights: on x86 CPUs without VNNI ONNX Runtime's "
     "products saturate and accuracy drops silently; uint8 weights with zero point 128 are right everywhere, and "
     "int8 weights of which no two neighbours pass 128 together are too (on x86 with VNNI all int8 weights are right, "
     "and faster)",
     _saturating),
    (ONNX, "explicit-pad",
     "{count} Pad operations stand between DequantizeLinear and QuantizeLinear: ONNX Runtime pads in float; "
     "fold them into the pads of the convolution or pooling that follows",
     _explicit_pads),
    (ONNX, "shared-weight-constants",
     "{count} constants of int8 weights (values or zero points) are read more than once: ONNX Runtime fails "
     "to load the file with session.x64quantprecision=1; give each use its own initializer",
     _shared_constants),
    (BOTH, "relu-zero-point",
     "{count} ReLU outputs have a zero point above the smallest integer: codes for negative numbers are "
     "wasted, and ONNX Runtime cannot drop the Relu and runs its convolution in float; pin the range's "
     "minimum at 0 when quantizing",
     _relus_above_minimum),
    (BOTH, "bias-scale",
     "{count} operations have a bias scale that is not input scale x weight scale: integer kernels ignore "
     "the bias's own scale, so the result is wrong; convert the model again",
     _bias_scales),
)
