"""Whether 16-bit sums of 8-bit products can saturate on x86 processors, read from a file's weights.

Without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with vpmaddubsw: two products are added in 16
bits, and a sum that does not fit becomes 32767 or -32768. The two are neighbours (2j, 2j + 1) of the flattened
reduction axis: (rows, columns, channels of the group) of a convolution's output channel, the rows of a matrix
(MlasGemmU8S8KernelAvx2, MlasConvSymKernelAvx2 and the Avx512Core ones; an odd last weight has 0 beside it). So, for
activations of codes 0..A, no sum leaves 16 bits exactly if in every pair

    A x (sum of the positive weights)  <=  32767    and    A x |sum of the negative weights|  <=  32768

which for A = 255 is 128 each. A pair of two signs is always safe: each product alone fits (255 x 128 < 32768). All
other kernels sum in 32 bits or hold one product at a time, and cannot saturate whatever the weights are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np

from edgeship.core.saturation import SaturatingLayer, Saturation
from edgeship.graph.code_bounds import LARGEST, largest_code
from edgeship.graph.held import held_weights
from edgeship.graph.kernels import kernel_of
from edgeship.graph.kinds import CONVOLUTIONS, DYNAMIC_PRODUCTS, TRANSPOSED_CONVOLUTIONS, WEIGHTED
from edgeship.graph.records import Graph, Operation, WeightedOperation

LARGEST_SUM, SMALLEST_SUM = 2**15 - 1, -(2**15)
INTEGERS = ("int8", "uint8")

# Why products cannot saturate, in the words of the certificate, after their number.
UNSIGNED = "with uint8 weights (widened to 16 bits, summed in 32)"
SIGNED = "with int8 activations (kernels without 16-bit sums)"
DEPTHWISE = "depthwise (one product in 16 bits at a time)"
LITERT = "in LiteRT (its x86 kernels widen int8 to 16 bits, sum in 32)"
SAFE_PAIRS = "with int8 weights of which no two neighbours can pass 16 bits"

CONVOLUTION_KINDS = frozenset({"Conv", "FusedConv", "QLinearConv"})
PAIRED_KINDS = CONVOLUTION_KINDS | {
    "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL",
}
# Of what holds more than one product, those whose reduction axis is the last but one of their weights.
PAIRED_HELD_KINDS = frozenset({"DynamicQuantizeMatMul", "QAttention", "DynamicQuantizeLSTM"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """int8 weights that are multiplied by uint8 activations: one row of codes per output, in the kernel's order."""

    operation: Operation
    codes: np.ndarray  # int (outputs, reduction)
    largest_activation: int
    output_steps: np.ndarray | None  # (outputs,) steps of the output that one product of codes is; None: not known


def saturation_of(graph: Graph) -> Saturation:
    """Return the certificate of a file."""
    exact: Counter[str] = Counter()
    products: list[Product] = []
    unknown: list[str] = []
    for item in graph.weighted_operations():
        if graph.format == "tflite":
            exact.update([LITERT] * (item.weights.dtype == "int8"))
            continue
        if not _is_of_integers(item):
            continue
        reason = _why_exact(graph, item)
        product = None if reason else _product(graph, item)
        if reason:
            exact[reason] += 1
        elif product is None:
            unknown.append(f"{item.operation.kind} {item.operation.name}")
        else:
            products.append(product)
    held, other = _held(graph)
    layers = [_layer(product) for product in (*products, *held)]
    exact.update([SAFE_PAIRS] * sum(layer.unsafe_pairs == 0 for layer in layers))
    unsafe, unknown = tuple(layer for layer in layers if layer.unsafe_pairs), [*unknown, *other]
    return Saturation(
        cannot_saturate=False if unsafe else None if unknown else True, exact=dict(exact),
        pairs=sum(layer.pairs for layer in layers), layers=unsafe, unknown=tuple(unknown),
    )


def pair_sums(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of the positive and of the negative weights of each pair.

    Args:
        codes: int (outputs, reduction), the reduction axis as the kernel has it.

    Returns:
        Two int64 arrays (outputs, pairs): at least 0, and at most 0.
    """
    wide = codes.astype(np.int64)
    wide = np.pad(wide, ((0, 0), (0, wide.shape[1] % 2))).reshape(len(wide), -1, 2)
    return np.maximum(wide, 0).sum(axis=-1), np.minimum(wide, 0).sum(axis=-1)


def reduction_rows(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel (outputs, inputs, rows, columns ...) as (outputs, reduction), the inputs running fastest."""
    return np.moveaxis(kernel, 1, -1).reshape(len(kernel), -1)


def is_pair_safe(codes: np.ndarray) -> bool:
    """Whether no pair of int8 weights (outputs, reduction) can pass 16 bits, whatever uint8 activations they meet."""
    positive, negative = (sums * LARGEST["uint8"] for sums in pair_sums(codes))
    return bool(positive.max(initial=0) <= LARGEST_SUM and negative.min(initial=0) >= SMALLEST_SUM)


def _is_of_integers(item: WeightedOperation) -> bool:
    """Whether it is computed in 8-bit integers, as far as the file tells; a transposed convolution is not."""
    return (
        item.weights.dtype in INTEGERS and item.input.dtype in (*INTEGERS, "unknown")
        and item.operation.kind not in TRANSPOSED_CONVOLUTIONS
    )


def _why_exact(graph: Graph, item: WeightedOperation) -> str | None:
    """Return the reason that holds whatever the weights are; None: it depends on them."""
    operation, shape = item.operation, item.weights.shape or ()
    if item.weights.dtype == "uint8":
        return UNSIGNED
    source = graph.producers.get(operation.inputs[0])
    # Between DequantizeLinear and QuantizeLinear, ONNX Runtime makes int8 activations uint8 when it loads the file.
    if item.input.dtype == "int8" and (source is None or source.kind != "DequantizeLinear"):
        return SIGNED
    return DEPTHWISE if _is_depthwise(operation, shape) else None


def _is_depthwise(operation: Operation, shape: tuple[int | None, ...]) -> bool:
    """Whether a kernel has one input and one output channel per group; with more outputs it is a matrix product."""
    if operation.kind == "DEPTHWISE_CONV_2D":
        return bool(operation.attributes.get("depth_multiplier", 1) == 1)
    group = operation.attributes.get("group", 1)
    return operation.kind in CONVOLUTION_KINDS and group > 1 and shape[:2] == (group, 1)


def _product(graph: Graph, item: WeightedOperation) -> Product | None:
    """Return the product with its weights in the order of the kernel; None where that is not known."""
    operation, rows = item.operation, _rows(graph, item)
    if operation.kind not in PAIRED_KINDS or rows is None:
        return None
    return Product(
        operation=operation, codes=rows, largest_activation=largest_code(graph, operation.inputs[0], item.input),
        output_steps=_output_steps(item, outputs=len(rows)),
    )


def _rows(graph: Graph, item: WeightedOperation) -> np.ndarray | None:
    """Return the codes of a product's weights, a row per output; None where their order is not known."""
    operation, data = item.operation, item.weights.data
    if operation.kind in DYNAMIC_PRODUCTS:
        return None if data is None or data.ndim < 2 else _columns(data)
    kernel = kernel_of(graph, operation, operation.inputs[WEIGHTED[operation.kind][1]])
    if kernel is None or kernel.values.ndim < 2:
        return None
    values = kernel.values
    return reduction_rows(values) if operation.kind in CONVOLUTIONS else values.reshape(-1, values.shape[-1])


def _columns(matrices: np.ndarray) -> np.ndarray:
    """Return the columns of (..., rows, columns), each as a row."""
    return np.swapaxes(matrices, -1, -2).reshape(-1, matrices.shape[-2])


def _output_steps(item: WeightedOperation, *, outputs: int) -> np.ndarray | None:
    data, weights, result = item.input.scales, item.weights.scales, item.output.scales
    if data is None or weights is None or result is None or weights.size not in (1, outputs):
        return None
    with np.errstate(all="ignore"):  # scales of a broken file
        steps = data[0].astype(np.float64) * weights / result[0]
    return np.broadcast_to(steps, (outputs,)) if np.all(np.isfinite(steps)) else None


def _held(graph: Graph) -> tuple[list[Product], list[str]]:
    """Return the products of int8 weights inside attention and recurrent layers, and what is not known of them."""
    products, unknown = [], []
    for held in held_weights(graph):
        data = held.tensor.data
        if graph.format != "onnx" or held.dtype != "int8" or not (held.dynamic or held.integer) or data is None:
            continue
        if held.operation.kind not in PAIRED_HELD_KINDS or data.ndim < 2:
            unknown.append(f"{held.operation.kind} {held.operation.name}")
            continue
        products.append(Product(
            operation=held.operation, codes=_columns(data), largest_activation=LARGEST["uint8"], output_steps=None,
        ))
    return products, unknown


def _layer(product: Product) -> SaturatingLayer:
    """Return how many pairs of a product are unsafe, and its largest error."""
    positive, negative = (sums * product.largest_activation for sums in pair_sums(product.codes))
    above, below = np.maximum(positive - LARGEST_SUM, 0), np.maximum(SMALLEST_SUM - negative, 0)
    # An input may drive all pairs of one sign to their ends and leave the others at 0: the excess of one sign adds up.
    errors = np.maximum(above.sum(axis=1), below.sum(axis=1))
    steps = None if product.output_steps is None else float((errors * product.output_steps).max(initial=0))
    return SaturatingLayer(
        operation=product.operation.name, kind=product.operation.kind, pairs=positive.size,
        unsafe_pairs=int(np.count_nonzero((above > 0) | (below > 0))), largest_error=int(errors.max(initial=0)),
        largest_error_steps=steps,
    )


def unsafe_layers(graph: Graph) -> tuple[SaturatingLayer, ...]:
    """Return the products that could saturate if they were of uint8 activations (0..255) and int8 weights.

    A TFLite file has the same integers as the ONNX files that are made from it, and uint8 weights with zero point 128
    stand for the same int8 weights.
    """
    products = [
        dataclasses.replace(product, largest_activation=LARGEST["uint8"])
        for item in graph.weighted_operations()
        if item.weights.dtype in INTEGERS and not _is_depthwise(item.operation, item.weights.shape or ())
        and (product := _product(graph, item)) is not None
    ]
    return tuple(layer for layer in map(_layer, products) if layer.unsafe_pairs)
