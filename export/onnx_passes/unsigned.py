"""Signed integers -> unsigned, on the same grid: every integer and every zero point plus 128.

Activations: on x86 ONNX Runtime leaves operations on int8 activations in float unless told otherwise
(`session.qdqisint8allowed`), uint8 ones become integer kernels by default. Weights: uint8 x int8 products
saturate in 16 bits on CPUs without VNNI (vpmaddubsw); uint8 x uint8 takes another, exact kernel.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeship.core.errors import ExportError
from edgeship.core.integers import UINT8_SHIFT
from edgeship.export.onnx_passes.editing import array, initializers, replace_array
from edgeship.export.onnx_passes.unshare import constant_quantization
from edgeship.graph.kinds import QDQ


def unsigned_activations(model: onnx.ModelProto) -> None:
    """int8 activations -> uint8, graph inputs and outputs and constants among them included.

    Requires: unshared constants. Ensures: no activation is int8; weights and biases are untouched.
    """
    constants, weights = initializers(model), constant_quantization(model)
    for name in _joined_constants(model):
        values = array(constants[name])
        if values.dtype == np.int8:
            replace_array(constants[name], (values.astype(np.int16) + UINT8_SHIFT).astype(np.uint8))
    for node in model.graph.node:
        if node.op_type not in QDQ or node.input[0] in weights:
            continue
        zero_point = constants[node.input[2]]
        values = array(zero_point)
        if values.dtype != np.int8:
            raise ExportError(f"{node.name}: expected an int8 activation, found {values.dtype}")
        replace_array(zero_point, (values.astype(np.int16) + UINT8_SHIFT).astype(np.uint8))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT8:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    del model.graph.value_info[:]


def _joined_constants(model: onnx.ModelProto) -> set[str]:
    """The constants among what is joined: tf2onnx joins integers as they are, without a DequantizeLinear."""
    constants = initializers(model)
    return {
        name for node in model.graph.node if node.op_type == "Concat" for name in node.input if name in constants
    }


def unsigned_weights(model: onnx.ModelProto) -> None:
    """int8 weights -> uint8 with zero point 128 for every channel. Requires: unshared constants."""
    constants = initializers(model)
    for name, node in constant_quantization(model).items():
        for tensor in (constants[name], constants[node.input[2]]):
            values = array(tensor)
            if values.dtype == np.int8:
                replace_array(tensor, (values.astype(np.int16) + UINT8_SHIFT).astype(np.uint8))
