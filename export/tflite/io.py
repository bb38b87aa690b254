"""An integer TFLite file with float32 ends: of all inputs and outputs, or of the softmaxes that make its outputs.

Between float32 inputs and outputs are the same operations on the same integers. LiteRT for the web takes no int8
tensors (2.5.3: "Element type INT8 is not supported"), and some apps want to feed floats. Only a QUANTIZE and a
DEQUANTIZE operation are added, so nothing is converted, calibrated or rounded again.
"""

from __future__ import annotations

from collections.abc import Collection

from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.export.tflite.edit import INT8_VERSIONS, conversion, drop_unused, float_twin, operator_code
from edgeship.export.tflite.names import DEQUANTIZED, pack

SUFFIX = "-float-io"
INTEGER_SUFFIX = "_quantized"
# Of the integer side -> the versions of QUANTIZE and DEQUANTIZE that know it
# (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
FLOAT_SOFTMAX_VERSION = 1
VERSIONS = {schema.TensorType.INT8: (1, 2), schema.TensorType.INT16: (2, 3)}


def with_float_io(content: bytes) -> bytes:
    """The same file, its inputs and outputs float32 under the names they had; what is float32 already stays.

    Args:
        content: an int8 or int16 file of `convert_tflite`, without metadata.

    Raises:
        ExportError: an input or output that is not an integer one.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    before, after = [], []
    inputs, outputs = list(map(int, graph.inputs)), list(map(int, graph.outputs))
    graph.inputs, graph.outputs = [], []
    for integer in inputs:
        real = _float_twin(graph, integer)
        version = VERSIONS[graph.tensors[integer].type][0]
        before.append(conversion(file, schema.BuiltinOperator.QUANTIZE, real, integer, version=version))
        graph.inputs.append(real)
        _point(signature.inputs, integer, real)
    for integer in outputs:
        if graph.tensors[integer].type == schema.TensorType.FLOAT32:
            graph.outputs.append(integer)
            continue
        real = _float_twin(graph, integer)
        version = VERSIONS[graph.tensors[integer].type][1]
        after.append(conversion(file, schema.BuiltinOperator.DEQUANTIZE, integer, real, version=version))
        graph.outputs.append(real)
        _point(signature.outputs, integer, real)
    graph.operators = [*before, *graph.operators, *after]
    return pack(file)


def with_float_results(content: bytes, names: Collection[str]) -> bytes:
    """The same file, the named int8 outputs float32: the softmax that makes one reads dequantized logits.

    An output that a layer kept in float makes is taken as that layer leaves it, before it is rounded.

    Raises:
        ExportError: an output that neither a softmax nor a layer kept in float makes.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    graph.operators, graph.outputs = list(graph.operators), list(map(int, graph.outputs))
    for place, tensor in enumerate(graph.outputs):
        name = graph.tensors[tensor].name.decode()
        if name not in names or graph.tensors[tensor].type == schema.TensorType.FLOAT32:
            continue
        maker = next(item for item in graph.operators if tensor in map(int, item.outputs))
        kind = file.operatorCodes[maker.opcodeIndex].builtinCode
        if kind == schema.BuiltinOperator.QUANTIZE:
            real = int(maker.inputs[0])
            graph.operators.remove(maker)
            graph.tensors[real].name = name.encode()
        elif kind == schema.BuiltinOperator.SOFTMAX:
            real = _float_softmax(file, maker)
        else:
            raise ExportError(f"{name}: expected a softmax or a layer kept in float to make this output")
        graph.outputs[place] = real
        _point(signature.outputs, tensor, real)
    drop_unused(file)
    return pack(file)


def _float_softmax(file: schema.ModelT, softmax: schema.OperatorT) -> int:
    """Let a softmax read float32 and give float32; returns its new result."""
    graph, (logits,), (result,) = file.subgraphs[0], map(int, softmax.inputs), map(int, softmax.outputs)
    name, source = graph.tensors[result].name, graph.tensors[logits]
    graph.tensors += [float_twin(source, source.name + DEQUANTIZED.encode()), float_twin(graph.tensors[result], name)]
    real = len(graph.tensors) - 2
    kind = schema.BuiltinOperator.DEQUANTIZE
    before = conversion(file, kind, logits, real, version=INT8_VERSIONS[kind])
    graph.operators.insert(graph.operators.index(softmax), before)
    softmax.opcodeIndex = operator_code(file, schema.BuiltinOperator.SOFTMAX, FLOAT_SOFTMAX_VERSION)
    softmax.inputs, softmax.outputs = [real], [real + 1]
    return real + 1


def _float_twin(graph: schema.SubGraphT, integer: int) -> int:
    """A float32 tensor that takes over the name of an integer one; its index."""
    tensor = graph.tensors[integer]
    if tensor.type not in VERSIONS:
        raise ExportError(f"{tensor.name.decode()}: expected an integer input or output to be given a float form")
    graph.tensors.append(float_twin(tensor, tensor.name))
    tensor.name = tensor.name + INTEGER_SUFFIX.encode()
    return len(graph.tensors) - 1


def _point(maps: list[schema.TensorMapT], before: int, now: int) -> None:
    for item in maps:
        if item.tensorIndex == before:
            item.tensorIndex = now
