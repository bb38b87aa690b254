"""Stable, readable tensor names in a TFLite file.

The converter names tensors after TensorFlow graph nodes ("resnet/quant_stage1_unit1_relu/Relu;resnet/..."). Here
every tensor is named after the Keras layer it belongs to: inputs and outputs by the model's own names, an
operation's result by its layer (`<layer>/<kind>` for the second one of a layer), kernels and biases `<layer>/kernel`
and `<layer>/bias`. ONNX files made from this one carry the same names, so the two can be held against each other
tensor by tensor.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.core.layer_names import layer_name
from edgeship.export.tflite.edit import with_known_versions

WEIGHTED = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.TRANSPOSE_CONV,
}
KERNEL_POSITION, BIAS_POSITIONS = 1, (2, 3)  # among a weighted operation's inputs; 3 in TRANSPOSE_CONV
SIGNATURE_INPUT, SIGNATURE_OUTPUT = "input{}", "output{}"  # by place, in the function that is converted
CONSTANT = "constant"
DEQUANTIZED = "/dequantized"  # after the name of an integer tensor: what a DEQUANTIZE makes of it
SECOND_USE = re.compile(r"_\d+(?=/|$)")
# TensorFlow's nodes that multiply by weights.
PRODUCTS = ("Conv2D", "MatMul", "depthwise", "conv2d_transpose")
BIAS_SUM = "BiasAdd"  # of the same layer, where a subclass calls its product otherwise
# Buffers must start at multiples of 16 (`force_align: 16` in the TFLite schema, which the Python generator
# of flatbuffers ignores); kernels map weights straight from the file.
BUFFER_ALIGNMENT = 16


def with_stable_names(
    content: bytes, *, model: str, layers: Collection[str], inputs: list[str], outputs: list[str]
) -> bytes:
    """The same TFLite file with every tensor named after its Keras layer, and versions that every kernel set knows.

    Args:
        model: the Keras model's name, which prefixes the converter's names.
        layers: the names of its layers, without tfmot's prefix.
        inputs, outputs: the names to give the file's inputs and outputs, in the model's order.

    Raises:
        ExportError: more than one subgraph, the signature's names do not match, or two of them are one tensor.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(file.subgraphs) != 1 or len(file.signatureDefs) != 1:
        raise ExportError(
            f"expected one subgraph with one signature, found {len(file.subgraphs)} and "
            f"{len(file.signatureDefs)}; control flow cannot be exported"
        )
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    names: dict[int, str] = {}
    sides = ((inputs, signature.inputs, SIGNATURE_INPUT), (outputs, signature.outputs, SIGNATURE_OUTPUT))
    for wanted, maps, form in sides:
        by_name = {item.name.decode(): item for item in maps}
        for place, name in enumerate(wanted):
            item = by_name.get(form.format(place))
            if item is None:
                raise ExportError(f"signature: expected {form.format(place)!r}, found {', '.join(by_name)}")
            if (twin := names.get(item.tensorIndex)) is not None:
                raise ExportError(
                    f"{model}: {name!r} and {twin!r} are one tensor in the file, since they are computed alike; leave "
                    "one of them out of the model's outputs"
                )
            names[item.tensorIndex] = name
            item.name = name.encode()
    # The order in the file follows the signature's alphabet; give it the model's order.
    graph.inputs = [_index(names, name) for name in inputs]
    graph.outputs = [_index(names, name) for name in outputs]
    taken = set(names.values())
    for operation in graph.operators:
        kind = file.operatorCodes[operation.opcodeIndex].builtinCode
        name = graph.tensors[operation.outputs[0]].name.decode()
        constants = [graph.tensors[place].name.decode() for place in operation.inputs[1:] if place >= 0]
        layer = _layer(name, model, layers, constants=constants if kind in WEIGHTED else None)
        # TensorFlow names the model's own result after none of its layers where one operation makes it.
        layer = layer or names.get(operation.outputs[0], name.split("/")[0])
        for output in operation.outputs:
            if output in names:
                continue
            if kind == schema.BuiltinOperator.DEQUANTIZE and operation.inputs[0] in names:
                names[output] = _unused(names[operation.inputs[0]] + DEQUANTIZED, "again", taken)
            else:
                names[output] = _unused(layer, _kind_name(kind), taken)
        _own_kernel(file, operation, kind, layer, names)
        for position, tensor in enumerate(operation.inputs):
            if tensor >= 0 and tensor not in names:
                role = _constant_role(kind, position)
                owner = names[operation.outputs[0]] if role.startswith(CONSTANT) else layer
                names[tensor] = _unused(f"{owner}/{role}", "again", taken)
    for index, tensor in enumerate(graph.tensors):
        tensor.name = names.get(index, f"unused{index}").encode()
    with_known_versions(file)
    return pack(file)


def _own_kernel(file: Any, operation: Any, kind: int, layer: str, names: dict[int, str]) -> None:
    """Give a layer its own tensor for a kernel that the converter merged with another layer's equal one.

    Both tensors stand on one buffer, so the file grows by a few bytes, and each layer's weights are found by name.
    """
    graph = file.subgraphs[0]
    tensor = operation.inputs[KERNEL_POSITION] if kind in WEIGHTED else -1
    if tensor not in names or names[tensor].startswith(f"{layer}/kernel"):
        return
    if file.buffers[graph.tensors[tensor].buffer].data is None:
        return  # computed, not constant
    inputs = [int(item) for item in operation.inputs]
    inputs[KERNEL_POSITION] = len(graph.tensors)
    graph.tensors.append(copy.copy(graph.tensors[tensor]))
    operation.inputs = inputs


def _index(names: dict[int, str], wanted: str) -> int:
    return next(index for index, name in names.items() if name == wanted)


def layer_of(tensor: str, layers: Collection[str]) -> str | None:
    """The layer that a tensor of such a file is named after: the longest name it is, or begins with before a "/"."""
    while tensor not in layers:
        tensor, slash, _ = tensor.rpartition("/")
        if not slash:
            return None
    return tensor


def _layer(name: str, model: str, layers: Collection[str], *, constants: list[str] | None) -> str | None:
    """ "resnet/quant_stage1_unit1_relu/Relu;resnet/..." -> "stage1_unit1_relu".

    The converter lists every node it fused; which comes first depends on the values of the biases. A weighted
    operation is always named after the layer that has its weights; where it took up the reshape behind it, only its
    kernel and bias still tell which that is. A layer's own name may have a "/" in it, and TensorFlow calls its second
    use "name_1".

    Args:
        constants: the names of a weighted operation's kernel and bias; None of any other operation.
    """
    paths, others = (
        [layer_name(path.removeprefix(f"{model}/")) for text in texts for path in text.split(";") if path]
        for texts in ([name], constants or [])
    )
    chosen = paths[0]
    if constants is not None:
        chosen = (_products(paths) or _sums(paths) or _products(others) or _sums(others) or paths)[0]
    again = (chosen[: use.start()] + chosen[use.end() :] for use in SECOND_USE.finditer(chosen))
    return next((layer for path in (chosen, *again) if (layer := layer_of(path, layers)) is not None), None)


def _products(paths: list[str]) -> list[str]:
    return [path for path in paths if path.rsplit("/", 1)[-1].startswith(PRODUCTS)]


def _sums(paths: list[str]) -> list[str]:
    return [path for path in paths if path.rsplit("/", 1)[-1] == BIAS_SUM]


def _kind_name(kind: int) -> str:
    return str(next(name for name, value in vars(schema.BuiltinOperator).items() if value == kind)).lower()


def _constant_role(kind: int, position: int) -> str:
    if kind in WEIGHTED and position == KERNEL_POSITION:
        return "kernel"
    if kind in WEIGHTED and position == BIAS_POSITIONS[kind == schema.BuiltinOperator.TRANSPOSE_CONV]:
        return "bias"
    return f"{CONSTANT}{position}"


def _unused(name: str, suffix: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate = f"{name}/{suffix}" if count == 1 else f"{name}/{suffix}{count}"
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
