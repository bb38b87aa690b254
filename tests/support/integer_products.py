"""Small ONNX files of one or two integer products, and what x86 processors without VNNI make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

X_SCALE, W_SCALE, Y_SCALE = np.float32(0.5), np.float32(0.25), np.float32(2)
MICROSOFT = "com.microsoft"
NUMBERS = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}


def model(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], *, x: tuple[int, ...], y: int = TensorProto.UINT8,
    x_type: int = TensorProto.UINT8,
) -> bytes:
    """Return the bytes of a file with the input x and the output y."""
    graph = helper.make_graph(
        list(nodes), "products", [helper.make_tensor_value_info("x", x_type, x)],
        [helper.make_tensor_value_info("y", y, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def qlinear_conv(weights: np.ndarray, *, size: int = 4, activations: Any = np.uint8, **attributes: Any) -> bytes:
    """Return a file of one QLinearConv; `weights` (O, I, rows, columns)."""
    dtype, middle = np.dtype(activations), activations(128 if activations is np.uint8 else 0)
    channels = weights.shape[1] * attributes.get("group", 1)
    zero = 128 if weights.dtype == np.uint8 else 0
    node = helper.make_node(
        "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], name="conv", **attributes
    )
    return model([node], {
        "xs": X_SCALE, "xz": activations(0), "w": weights, "ws": np.full(len(weights), W_SCALE, np.float32),
        "wz": np.full(len(weights), zero, weights.dtype), "ys": Y_SCALE, "yz": middle,
    }, x=(1, channels, size, size), y=NUMBERS[dtype], x_type=NUMBERS[dtype])


def qlinear_matmul(weights: np.ndarray) -> bytes:
    """Return a file of one QLinearMatMul; `weights` (K, N) int8."""
    node = helper.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], name="product")
    return model([node], {
        "xs": X_SCALE, "xz": np.uint8(0), "w": weights, "ws": W_SCALE, "wz": np.int8(0), "ys": Y_SCALE,
        "yz": np.uint8(128),
    }, x=(1, weights.shape[0]))


def matmul_integer(weights: np.ndarray) -> bytes:
    """Return a file of one MatMulInteger, whose output is the sums of products themselves; `weights` (K, N) int8."""
    return model(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="product")], {"w": weights},
        x=(1, weights.shape[0]), y=TensorProto.INT32,
    )


ZERO = np.uint8(0)


def qdq_conv(weights: np.ndarray, *, x_zero: Any = ZERO, clip: float | None = None) -> bytes:
    """Return a file of Conv between DequantizeLinear and QuantizeLinear; with `clip` behind a Clip of floats."""
    zero = type(x_zero)
    nodes, constants = [], {
        "xs": X_SCALE, "xz": x_zero, "w": weights, "ws": np.full(len(weights), W_SCALE, np.float32),
        "wz": np.zeros(len(weights), np.int8), "ys": Y_SCALE, "yz": zero(0),
    }
    integers, x_type = "x", NUMBERS[np.dtype(zero)]
    if clip is not None:
        constants |= {"low": np.float32(0), "high": np.float32(clip)}
        nodes += [
            helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
            helper.make_node("QuantizeLinear", ["clipped", "xs", "xz"], ["codes"]),
        ]
        integers, x_type = "codes", TensorProto.FLOAT
    nodes += [
        helper.make_node("DequantizeLinear", [integers, "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["y"]),
    ]
    return model(nodes, constants, x=(1, weights.shape[1], 4, 4), y=NUMBERS[np.dtype(zero)], x_type=x_type)


def saturating_products(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return what vpmaddubsw makes of (n, K) uint8 by (K, N) int8: two neighbours are added and clipped to 16 bits."""
    products = activations.astype(np.int64)[:, :, None] * weights.astype(np.int64)[None]
    products = np.pad(products, ((0, 0), (0, weights.shape[0] % 2), (0, 0)))
    pairs = products.reshape(len(activations), -1, 2, weights.shape[1]).sum(axis=2)
    total: np.ndarray = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)
    return total


def worst_inputs(weights: np.ndarray) -> np.ndarray:
    """Return uint8 (2 N + 1, K): all 255, and for each column 255 at its positive and at its negative weights."""
    rows = [np.full(len(weights), 255), *(np.where(weights > 0, 255, 0).T), *(np.where(weights < 0, 255, 0).T)]
    return np.array(rows).astype(np.uint8)
