"""Small edits of a TFLite file in its object form (`schema.ModelT`)."""

from __future__ import annotations

from collections.abc import Iterable

from ai_edge_litert import schema_py_generated as schema

from edgeship.graph.kinds import TFLITE_CONVERSIONS

CONVERSIONS = frozenset(getattr(schema.BuiltinOperator, kind) for kind in TFLITE_CONVERSIONS)
# The versions that know int8 (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
INT8_VERSIONS = {schema.BuiltinOperator.QUANTIZE: 1, schema.BuiltinOperator.DEQUANTIZE: 2}
_OPTIONS = {
    schema.BuiltinOperator.QUANTIZE: (schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT),
    schema.BuiltinOperator.DEQUANTIZE: (schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT),
}


# The converter gives an int8 DEPTH_TO_SPACE version 2. The kernels of both versions are one, and LiteRT 2.3 registers
# it in its reference kernels under version 1 only (tflite/kernels/register_ref.cc).
LOWEST_VERSIONS = {schema.BuiltinOperator.DEPTH_TO_SPACE: 1}


def with_known_versions(file: schema.ModelT) -> None:
    """Let every kind of operation have a version that all of LiteRT's kernel sets know."""
    for code in file.operatorCodes:
        code.version = min(code.version, LOWEST_VERSIONS.get(code.builtinCode, code.version))


def operator_code(file: schema.ModelT, kind: int, version: int) -> int:
    """The index of an operator code of at least that version, which is added where the file has none."""
    for index, code in enumerate(file.operatorCodes):
        if code.builtinCode == kind and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    file.operatorCodes.append(code)
    return len(file.operatorCodes) - 1


def conversion(file: schema.ModelT, kind: int, source: int, result: int, *, version: int) -> schema.OperatorT:
    """A QUANTIZE or DEQUANTIZE of the tensor `source` into the tensor `result`."""
    operation = schema.OperatorT()
    operation.opcodeIndex, operation.inputs, operation.outputs = operator_code(file, kind, version), [source], [result]
    operation.builtinOptionsType, options = _OPTIONS[kind]
    operation.builtinOptions = options()
    return operation


def float_twin(tensor: schema.TensorT, name: bytes) -> schema.TensorT:
    """A float32 activation of the same shape as another tensor."""
    twin = schema.TensorT()
    twin.name, twin.shape, twin.shapeSignature = name, tensor.shape, tensor.shapeSignature
    twin.type, twin.buffer, twin.hasRank = schema.TensorType.FLOAT32, 0, tensor.hasRank  # buffer 0 is the empty one
    return twin


def drop_unread_conversions(file: schema.ModelT) -> None:
    """Leave out QUANTIZE and DEQUANTIZE operations whose results nothing reads."""
    graph = file.subgraphs[0]
    read = {int(tensor) for tensor in graph.outputs}
    kept = []
    for operation in reversed(graph.operators):
        kind = file.operatorCodes[operation.opcodeIndex].builtinCode
        if kind not in CONVERSIONS or read.intersection(map(int, operation.outputs)):
            kept.append(operation)
            read.update(map(int, operation.inputs))
    graph.operators = kept[::-1]


def drop_unused(file: schema.ModelT) -> None:
    """Leave out the operator codes, tensors and buffers that nothing refers to any more.

    A runtime refuses a file for every kind of operation it does not know, used or not.
    """
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    codes = _places(operation.opcodeIndex for operation in graph.operators)
    file.operatorCodes = [file.operatorCodes[index] for index in codes]
    maps = [*signature.inputs, *signature.outputs]
    used = [tensor for operation in graph.operators for tensor in (*operation.inputs, *operation.outputs)]
    tensors = _places([*graph.inputs, *graph.outputs, *(tensor for tensor in used if tensor >= 0)])
    graph.tensors = [graph.tensors[index] for index in tensors]
    for operation in graph.operators:
        operation.opcodeIndex = codes[operation.opcodeIndex]
        operation.inputs = [tensors.get(int(tensor), -1) for tensor in operation.inputs]
        operation.outputs = [tensors[int(tensor)] for tensor in operation.outputs]
    graph.inputs, graph.outputs = ([tensors[int(tensor)] for tensor in ends] for ends in (graph.inputs, graph.outputs))
    for item in maps:
        item.tensorIndex = tensors[item.tensorIndex]
    owners = [*graph.tensors, *(file.metadata or [])]
    buffers = _places([0, *(owner.buffer for owner in owners)])  # buffer 0 is the empty one, by the format's rule
    file.buffers = [file.buffers[index] for index in buffers]
    for owner in owners:
        owner.buffer = buffers[owner.buffer]


def _places(indices: Iterable[int]) -> dict[int, int]:
    """Old index -> new index, in the old order."""
    return {old: new for new, old in enumerate(sorted({int(index) for index in indices}))}
