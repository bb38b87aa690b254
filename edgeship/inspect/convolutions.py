"""Which convolutions of a U8S8 file miss ONNX Runtime's fastest kernel on x86, by their channels alone.

The kernel (convolutions with symmetric int8 weights) reads its input through pointers and rounds its output at once;
the others copy each window first, and round in a pass of their own. The conditions are those of ONNX Runtime's
QLinearConv and of its kernels for AVX2, AVX-VNNI and AVX-512.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.graph import Graph

CONVOLUTIONS = ("Conv", "QLinearConv")
FEWEST_OUTPUTS, OUTPUT_STEP, INPUT_STEP, DEPTHWISE_STEP = 16, 8, 4, 16


def slow_convolutions(graph: Graph) -> tuple[str, ...]:
    """Return "name: what its channels lack" for each such convolution with uint8 activations and int8 weights."""
    found = []
    for item in graph.weighted_operations():
        operation, shape = item.operation, item.weights.shape
        if operation.kind not in CONVOLUTIONS or (item.input.dtype, item.weights.dtype) != ("uint8", "int8"):
            continue
        if shape is None or len(shape) < 3 or shape[0] is None or shape[1] is None:
            continue
        lacks = list(missed_conditions(shape[0], shape[1], group=int(operation.attributes.get("group", 1))))
        if lacks:
            found.append(f"{operation.name}: {', '.join(lacks)}")
    return tuple(found)


def missed_conditions(outputs: int, inputs: int, *, group: int) -> Iterator[str]:
    """Yield what the channels of a convolution lack; `inputs` are those of one group."""
    if group > 1:
        if inputs != 1 or outputs != group:
            yield f"{group} groups that are not depthwise"
        elif outputs % DEPTHWISE_STEP:
            yield f"{outputs} channels, no multiple of {DEPTHWISE_STEP}"
        return
    if inputs % INPUT_STEP:
        yield f"{inputs} input channels, no multiple of {INPUT_STEP}"
    if outputs < FEWEST_OUTPUTS:
        yield f"{outputs} output channels, fewer than {FEWEST_OUTPUTS}"
    elif outputs % OUTPUT_STEP:
        yield f"{outputs} output channels, no multiple of {OUTPUT_STEP}"
