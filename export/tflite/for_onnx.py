"""A TFLite file in a form that tf2onnx reads right: every matrix product on a matrix.

tf2onnx (1.17, tflite_handlers/tfl_math.py, TflFullyConnectedOp) replaces the inputs of a FULLY_CONNECTED whose input
is not of rank 2 by the data and the weights, and the bias with them is gone; where the rank stays (`keep_num_dims`) it
writes a MatMul and an Add, which ONNX Runtime merges into a product with a float result (MatMulAddFusion). A product of
a matrix becomes one Gemm with its bias, an integer one where it is quantized. So the rows are made one axis in front of
the product and get their axes back behind it; both reshapes only rename positions.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeship.core.errors import ExportError
from edgeship.export.tflite.edit import operator_code
from edgeship.export.tflite.names import pack

Builtin = schema.BuiltinOperator
ROWS, PRODUCTS = "/rows", "/products"  # after the name of a tensor: itself as a matrix


def with_matrix_products(content: bytes) -> bytes:
    """The same network with every FULLY_CONNECTED between two tensors of rank 2.

    Args:
        content: a TFLite file of one subgraph, with fixed shapes.

    Returns:
        The file's bytes; those given where every product is one already.

    Raises:
        ExportError: a product whose shapes do not fit its weights.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = file.subgraphs[0]
    operations: list[Any] = []
    for operation in graph.operators:
        if file.operatorCodes[operation.opcodeIndex].builtinCode != Builtin.FULLY_CONNECTED:
            operations.append(operation)
            continue
        data, result = int(operation.inputs[0]), int(operation.outputs[0])
        units, depth = (int(size) for size in graph.tensors[int(operation.inputs[1])].shape)
        rows = _rows(graph.tensors[data], depth)
        if rows * units != math.prod(map(int, graph.tensors[result].shape)):
            raise ExportError(f"{graph.tensors[result].name.decode()}: {rows} rows of {units} products do not fill it")
        inputs, outputs = [int(item) for item in operation.inputs], [result]
        if len(graph.tensors[data].shape) != 2:
            inputs[0] = _like(graph, data, ROWS, (rows, depth), owner=result)
            operations.append(_reshape(file, data, inputs[0]))
        operations.append(operation)
        if len(graph.tensors[result].shape) != 2:
            outputs[0] = _like(graph, result, PRODUCTS, (rows, units), owner=result)
            operations.append(_reshape(file, outputs[0], result))
        operation.inputs, operation.outputs = inputs, outputs
        operation.builtinOptions.keepNumDims = False
    if len(operations) == len(graph.operators):
        return content
    graph.operators = operations
    return pack(file)


def _rows(tensor: Any, depth: int) -> int:
    size = math.prod(map(int, tensor.shape))
    if size % depth:
        raise ExportError(f"{tensor.name.decode()}: {size} values are no rows of {depth}")
    return size // depth


def _like(graph: Any, tensor: int, suffix: str, shape: tuple[int, int], *, owner: int) -> int:
    """A tensor of the same type and grid in another shape, named after the product's result."""
    twin = copy.copy(graph.tensors[tensor])
    twin.name = graph.tensors[owner].name + suffix.encode()
    twin.shape, twin.shapeSignature, twin.buffer = np.array(shape, np.int32), None, 0  # buffer 0 is the empty one
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _reshape(file: Any, source: int, result: int) -> Any:
    graph = file.subgraphs[0]
    shape = np.asarray(graph.tensors[result].shape, np.int32)
    values, tensor = schema.BufferT(), schema.TensorT()
    values.data = np.frombuffer(shape.astype("<i4").tobytes(), np.uint8)
    file.buffers.append(values)
    tensor.name = graph.tensors[result].name + b"/shape"
    tensor.shape, tensor.type = np.array(shape.shape, np.int32), schema.TensorType.INT32
    tensor.buffer = len(file.buffers) - 1
    graph.tensors.append(tensor)
    operation = schema.OperatorT()
    operation.opcodeIndex = operator_code(file, Builtin.RESHAPE, 1)
    operation.inputs, operation.outputs = [source, len(graph.tensors) - 1], [result]
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    operation.builtinOptionsType, operation.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    return operation
