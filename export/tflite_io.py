"""An int8 TFLite file with float32 inputs and outputs: the same operations on the same integers in between.

LiteRT for the web takes no int8 tensors (2.5.3: "Element type INT8 is not supported"), and some apps want to feed
floats. Only a QUANTIZE and a DEQUANTIZE operation are added, so nothing is converted, calibrated or rounded again.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgeship.errors import ExportError
from export.tflite_names import pack

SUFFIX = "-float-io"
INTEGER_SUFFIX = "_quantized"
# The versions that know int8 (tensorflow/lite/tools/versioning/op_version.cc).
QUANTIZE_VERSION, DEQUANTIZE_VERSION = 1, 2


def with_float_io(content: bytes) -> bytes:
    """The same file, its input and output float32 under the names they had.

    Args:
        content: an int8 file of `convert_tflite`, without metadata.

    Raises:
        ExportError: an input or output that is not int8.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    quantize = _code(file, schema.BuiltinOperator.QUANTIZE, QUANTIZE_VERSION)
    dequantize = _code(file, schema.BuiltinOperator.DEQUANTIZE, DEQUANTIZE_VERSION)
    before, after = [], []
    inputs, outputs = list(map(int, graph.inputs)), list(map(int, graph.outputs))
    graph.inputs, graph.outputs = [], []
    for integer in inputs:
        real = _float_twin(graph, integer)
        before.append(_operation(quantize, real, integer, schema.BuiltinOptions.QuantizeOptions))
        graph.inputs.append(real)
        _point(signature.inputs, integer, real)
    for integer in outputs:
        real = _float_twin(graph, integer)
        after.append(_operation(dequantize, integer, real, schema.BuiltinOptions.DequantizeOptions))
        graph.outputs.append(real)
        _point(signature.outputs, integer, real)
    graph.operators = [*before, *graph.operators, *after]
    return pack(file)


def _code(file: schema.ModelT, kind: int, version: int) -> int:
    """The index of an operator code, which is added where the file has none."""
    for index, code in enumerate(file.operatorCodes):
        if code.builtinCode == kind and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    file.operatorCodes.append(code)
    return len(file.operatorCodes) - 1


def _float_twin(graph: schema.SubGraphT, integer: int) -> int:
    """A float32 tensor that takes over the name of an int8 one; its index."""
    tensor = graph.tensors[integer]
    if tensor.type != schema.TensorType.INT8:
        raise ExportError(f"{tensor.name.decode()}: expected an int8 input or output to be given a float form")
    twin = schema.TensorT()
    twin.name, twin.shape, twin.shapeSignature = tensor.name, tensor.shape, tensor.shapeSignature
    twin.type, twin.buffer, twin.hasRank = schema.TensorType.FLOAT32, 0, tensor.hasRank  # buffer 0 is the empty one
    tensor.name = tensor.name + INTEGER_SUFFIX.encode()
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _operation(code: int, source: int, result: int, options: int) -> schema.OperatorT:
    operation = schema.OperatorT()
    operation.opcodeIndex, operation.inputs, operation.outputs = code, [source], [result]
    operation.builtinOptionsType = options
    operation.builtinOptions = {
        schema.BuiltinOptions.QuantizeOptions: schema.QuantizeOptionsT,
        schema.BuiltinOptions.DequantizeOptions: schema.DequantizeOptionsT,
    }[options]()
    return operation


def _point(maps: list[schema.TensorMapT], before: int, now: int) -> None:
    for item in maps:
        if item.tensorIndex == before:
            item.tensorIndex = now
