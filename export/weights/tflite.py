"""A float32 TFLite file with its kernels in fewer bytes: float16, or int8 with one scale per output channel.

The file that the converter made is edited, so nothing is converted twice and every kernel is in it: the converter's
own dynamic range leaves tensors of fewer than 1,024 numbers in float, often an image network's first convolution
(TensorFlow 2.21; measured).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeship.export.tflite.edit import conversion, drop_unused, float_twin, operator_code
from edgeship.export.tflite.names import KERNEL_POSITION, layer_of, pack
from edgeship.export.weights.codes import as_float16, quantize_per_channel

Builtin, Type = schema.BuiltinOperator, schema.TensorType
# Kind -> the axis of its output channels, and the version that takes an int8 kernel per channel between float tensors
# (None: no version does). From tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc.
KINDS: dict[int, tuple[int, int | None]] = {
    Builtin.CONV_2D: (0, 5), Builtin.DEPTHWISE_CONV_2D: (3, 6), Builtin.FULLY_CONNECTED: (0, 12),
    Builtin.TRANSPOSE_CONV: (0, None),
}
# DEQUANTIZE: of float16, and of int8 per channel.
HALF_VERSION, PER_CHANNEL_VERSION = 3, 5
STORED = "/stored"  # after the name of the float32 kernel that is made of it

# Gives a tensor its new type and grid; returns the kernel's new bytes. Takes the tensor, float32 values, channel axis.
Write = Callable[[Any, np.ndarray, int], bytes]


def with_float16_weights(content: bytes, *, layers: Collection[str]) -> bytes:
    """The same file with float16 kernels, and a DEQUANTIZE to float32 behind each; it computes as before.

    Raises:
        ExportError: a kernel that does not fit float16.
    """
    return _rewritten(content, layers=layers, keep_float=(), write=_write_float16, version=HALF_VERSION, dynamic=False)


def with_int8_weights(content: bytes, *, layers: Collection[str], keep_float: Collection[str], dynamic: bool) -> bytes:
    """The same file with int8 kernels, one symmetric scale per output channel.

    Args:
        layers: the names of the model's layers.
        keep_float: those whose kernels stay as they are.
        dynamic: let operations take the int8 kernels and quantize their own inputs when they run, where they can
            (TRANSPOSE_CONV cannot); otherwise, and always if False, a DEQUANTIZE makes float32 of each kernel.

    Raises:
        ExportError: a kernel that has no int8 form.
    """
    return _rewritten(
        content, layers=layers, keep_float=keep_float, write=_write_int8, version=PER_CHANNEL_VERSION, dynamic=dynamic
    )


def _rewritten(
    content: bytes, *, layers: Collection[str], keep_float: Collection[str], write: Write, version: int, dynamic: bool
) -> bytes:
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = file.subgraphs[0]
    made: dict[int, int] = {}  # stored kernel -> the float32 tensor that a DEQUANTIZE makes of it
    operations = []
    for operation in graph.operators:
        kind = file.operatorCodes[operation.opcodeIndex].builtinCode
        index = int(operation.inputs[KERNEL_POSITION]) if kind in KINDS else -1
        if index >= 0 and _is_small(file, graph.tensors[index], KINDS[kind][0], layers, keep_float, write):
            takes_int8 = KINDS[kind][1]
            if dynamic and takes_int8 is not None:
                _take_int8(file, operation, kind, takes_int8)
            else:
                if index not in made:
                    made[index] = _float_form(graph, index)
                    operations.append(conversion(file, Builtin.DEQUANTIZE, index, made[index], version=version))
                operation.inputs = [made[index] if tensor == index else int(tensor) for tensor in operation.inputs]
        operations.append(operation)
    graph.operators = operations
    drop_unused(file)
    return pack(file)


def _is_small(
    file: Any, tensor: Any, axis: int, layers: Collection[str], keep_float: Collection[str], write: Write
) -> bool:
    """Store a float32 kernel in its smaller form, once; whether it has that form now."""
    buffer = file.buffers[tensor.buffer]
    if tensor.type != Type.FLOAT32:
        return True
    if buffer.data is None or layer_of(tensor.name.decode(), layers) in keep_float:
        return False  # a product of two activations, or kept
    kernel = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
    if sum(other.buffer == tensor.buffer for other in file.subgraphs[0].tensors) > 1:
        # Another tensor of equal numbers: the converter gave them one buffer.
        tensor.buffer = len(file.buffers)
        file.buffers.append(schema.BufferT())
        buffer = file.buffers[-1]
    buffer.data = np.frombuffer(write(tensor, kernel, axis), np.uint8)
    return True


def _write_float16(tensor: Any, kernel: np.ndarray, axis: int) -> bytes:
    tensor.type = Type.FLOAT16
    return as_float16(kernel, name=tensor.name.decode()).tobytes()


def _write_int8(tensor: Any, kernel: np.ndarray, axis: int) -> bytes:
    quantized = quantize_per_channel(kernel, axis=axis, name=tensor.name.decode())
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.quantizedDimension = quantized.scales, axis
    parameters.zeroPoint = np.zeros(len(quantized.scales), np.int64)
    tensor.type, tensor.quantization = Type.INT8, parameters
    return quantized.codes.tobytes()


def _take_int8(file: Any, operation: Any, kind: int, version: int) -> None:
    least = max(version, file.operatorCodes[operation.opcodeIndex].version)
    operation.opcodeIndex = operator_code(file, kind, least)
    if kind == Builtin.FULLY_CONNECTED:
        # Its input gets a zero point, like a convolution's and like ONNX's DynamicQuantizeLinear.
        operation.builtinOptions.asymmetricQuantizeInputs = True


def _float_form(graph: Any, index: int) -> int:
    """A float32 tensor that takes over the name of a stored kernel; its index."""
    tensor = graph.tensors[index]
    graph.tensors.append(float_twin(tensor, tensor.name))
    tensor.name = tensor.name + STORED.encode()
    return len(graph.tensors) - 1
