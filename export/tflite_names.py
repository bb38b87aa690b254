"""Stable, readable tensor names in a TFLite file.

The converter names tensors after TensorFlow graph nodes ("resnet/quant_stage1_unit1_relu/Relu;resnet/..."). Here
every tensor is named after the Keras layer it belongs to: inputs and outputs by the model's own names, an
operation's result by its layer, its constants `<result>/kernel` and `<result>/bias`. ONNX files made from this
one carry the same names, so the two can be held against each other tensor by tensor.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edgeship.errors import ExportError

WEIGHTED = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.TRANSPOSE_CONV,
}
# TensorFlow's nodes that multiply by weights.
PRODUCTS = ("Conv2D", "MatMul", "depthwise", "conv2d_transpose")
# Buffers must start at multiples of 16 (`force_align: 16` in the TFLite schema, which the Python generator
# of flatbuffers ignores); kernels map weights straight from the file.
BUFFER_ALIGNMENT = 16


def with_stable_names(content: bytes, *, model: str, inputs: list[str], outputs: list[str]) -> bytes:
    """The same TFLite file with every tensor named after its Keras layer.

    Args:
        model: the Keras model's name, which prefixes the converter's names.
        inputs, outputs: the names to give the file's inputs and outputs, in the model's order.

    Raises:
        ExportError: more than one subgraph, or the signature's names do not match.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(file.subgraphs) != 1 or len(file.signatureDefs) != 1:
        raise ExportError(
            f"expected one subgraph with one signature, found {len(file.subgraphs)} and "
            f"{len(file.signatureDefs)}; control flow cannot be exported"
        )
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    names: dict[int, str] = {}
    for wanted, maps in ((inputs, signature.inputs), (outputs, signature.outputs)):
        by_name = {item.name.decode(): item.tensorIndex for item in maps}
        for name in wanted:
            if name not in by_name:
                raise ExportError(f"signature: expected {name!r}, found {', '.join(by_name)}")
            names[by_name[name]] = name
    # The order in the file follows the signature's alphabet; give it the model's order.
    graph.inputs = [_index(names, name) for name in inputs]
    graph.outputs = [_index(names, name) for name in outputs]
    taken = set(names.values())
    for operation in graph.operators:
        kind = file.operatorCodes[operation.opcodeIndex].builtinCode
        for output in operation.outputs:
            if output not in names:
                layer = _layer(graph.tensors[output].name.decode(), model, weighted=kind in WEIGHTED)
                names[output] = _unused(layer, _kind_name(kind), taken)
        for position, tensor in enumerate(operation.inputs):
            if tensor >= 0 and tensor not in names:
                role = _constant_role(kind, position)
                names[tensor] = _unused(f"{names[operation.outputs[0]]}/{role}", "again", taken)
    for index, tensor in enumerate(graph.tensors):
        tensor.name = names.get(index, f"unused{index}").encode()
    return pack(file)


def _index(names: dict[int, str], wanted: str) -> int:
    return next(index for index, name in names.items() if name == wanted)


def _layer(name: str, model: str, *, weighted: bool) -> str:
    """ "resnet/quant_stage1_unit1_relu/Relu;resnet/..." -> "stage1_unit1_relu".

    The converter lists every node it fused; which comes first depends on the values of the biases. A weighted
    operation is always named after the layer that has its weights.
    """
    segments = [segment.split("/") for segment in name.split(";") if segment]
    chosen = segments[0]
    if weighted:
        chosen = next((parts for parts in segments if parts[-1].startswith(PRODUCTS)), chosen)
    if len(chosen) > 1 and chosen[0] == model:
        chosen = chosen[1:]
    return chosen[0].removeprefix("quant_")


def _kind_name(kind: int) -> str:
    return str(next(name for name, value in vars(schema.BuiltinOperator).items() if value == kind)).lower()


def _constant_role(kind: int, position: int) -> str:
    if kind in WEIGHTED and position in (1, 2):
        return ("kernel", "bias")[position - 1]
    return f"constant{position}"


def _unused(name: str, suffix: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate = f"{name}_{suffix}" if count == 1 else f"{name}_{suffix}{count}"
        count += 1
    taken.add(candidate)
    return candidate


class _AlignedBuffer(schema.BufferT):
    """A BufferT whose data is packed at a multiple of 16."""

    def Pack(self, builder: Any) -> int:
        data = None
        if self.data is not None and len(self.data):
            content = bytes(self.data)
            builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
            builder.head = builder.head - len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def pack(file: Any) -> bytes:
    """A ModelT as the bytes of a file whose buffers start at multiples of 16. Its buffers are replaced."""
    for position, buffer in enumerate(file.buffers):
        aligned = _AlignedBuffer()
        aligned.data = buffer.data
        file.buffers[position] = aligned
    builder = flatbuffers.Builder(1024 * 1024)
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())
