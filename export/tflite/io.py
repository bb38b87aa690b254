"""An integer TFLite file with float32 inputs and outputs: the same operations on the same integers in between.

LiteRT for the web takes no int8 tensors (2.5.3: "Element type INT8 is not supported"), and some apps want to feed
floats. Only a QUANTIZE and a DEQUANTIZE operation are added, so nothing is converted, calibrated or rounded again.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.export.tflite.edit import conversion, float_twin
from edgeship.export.tflite.names import pack

SUFFIX = "-float-io"
INTEGER_SUFFIX = "_quantized"
# Of the integer side -> the versions of QUANTIZE and DEQUANTIZE that know it
# (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc).
VERSIONS = {schema.TensorType.INT8: (1, 2), schema.TensorType.INT16: (2, 3)}


def with_float_io(content: bytes) -> bytes:
    """The same file, its input and output float32 under the names they had.

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
        real = _float_twin(graph, integer)
        version = VERSIONS[graph.tensors[integer].type][1]
        after.append(conversion(file, schema.BuiltinOperator.DEQUANTIZE, integer, real, version=version))
        graph.outputs.append(real)
        _point(signature.outputs, integer, real)
    graph.operators = [*before, *graph.operators, *after]
    return pack(file)


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
