"""Operators on images (pooling, resizing) and products with weights -> layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model import flat_layers
from quantize.operator_arguments import Call, Owned, Replacement, Result, as_array, is_tensor, static_shape
from quantize.operators_arithmetic import with_array


def _reduce(kind: str, image: Any = None) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        tensor, axis = call["input_tensor"], call.get("axis")
        if axis is None:
            return None
        axes = sorted({int(item) % tensor.shape.rank for item in np.atleast_1d(as_array(axis))})
        keepdims = bool(call.get("keepdims"))
        if 0 in axes:
            return None
        if image is not None and tensor.shape.rank == 4 and axes == [1, 2]:
            return Replacement(image(keepdims=keepdims, name="pool"), tensor)
        return Replacement(flat_layers.Reduce(kind, axes, keepdims, name=kind), tensor)

    return build


def _resize(call: Call) -> Result:
    tensor, size = call["images"], static_shape(call["size"])
    method = str(getattr(call["method"], "value", call["method"])).lower()
    plain = not call.get("preserve_aspect_ratio") and not call.get("antialias")
    if tensor.shape.rank != 4 or method not in ("bilinear", "nearest") or not plain:
        return None
    if size is None or None in size or None in tensor.shape[1:3]:
        return None
    height, width = tensor.shape[1:3]
    if (height, width) == tuple(size):
        return tensor
    if size[0] % height == 0 and size[1] % width == 0:
        factors = (size[0] // height, size[1] // width)
        return Replacement(layers.UpSampling2D(factors, interpolation=method, name="resize"), tensor)
    return Replacement(layers.Resizing(*size, interpolation=method, name="resize"), tensor)


def _depth(*, inverse: bool) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        if call.get("data_format", "NHWC") != "NHWC":
            return None
        name = "space_to_depth" if inverse else "depth_to_space"
        return Replacement(flat_layers.DepthToSpace(int(call["block_size"]), inverse, name=name), call["input"])

    return build


def _pair(value: Any) -> tuple[int, int] | None:
    """(height, width) out of TensorFlow's 2, [2], [2, 2] or [1, 2, 2, 1]; None for anything else."""
    sizes = [int(item) for item in np.atleast_1d(1 if value is None else as_array(value))]
    if len(sizes) == 4:
        sizes = sizes[1:3] if sizes[0] == sizes[3] == 1 else []
    return (sizes[0], sizes[-1]) if len(sizes) in (1, 2) else None


def _padding(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) and value.upper() in ("SAME", "VALID") else None


def _pool(layer: Any, name: str) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        tensor = call["input"]
        size, strides, padding = _pair(call["ksize"]), _pair(call["strides"]), _padding(call["padding"])
        if tensor.shape.rank != 4 or None in (size, strides, padding) or call.get("data_format") not in (None, "NHWC"):
            return None
        return Replacement(layer(size, strides, padding, name=name), tensor)

    return build


def _kernel(value: Any) -> Owned | np.ndarray | None:
    """A weight or a constant in its own shape, or None: a tensor, or a variable that was reshaped before."""
    if isinstance(value, Owned):
        return value if value.used_shape == value.shape else None
    return None if is_tensor(value) else np.asarray(value, np.float32)


def _convolution(call: Call, *, depthwise: bool = False) -> Result:
    tensor, kernel = call["input"], _kernel(call.first("filters", "filter"))
    strides, padding = _pair(call.get("strides")), _padding(call.get("padding", "VALID"))
    dilation = _pair(call.first("dilations", "dilation_rate", "rate"))
    if kernel is None or strides is None or padding is None or dilation is None or tensor.shape.rank != 4:
        return None
    if call.get("data_format") not in (None, "NHWC") or len(kernel.shape) != 4:
        return None
    height, width, inputs, outputs = kernel.shape
    options = {"use_bias": False, "trainable": isinstance(kernel, Owned) and kernel.trainable,
               "strides": strides, "padding": padding, "dilation_rate": dilation}
    if depthwise:
        layer = layers.DepthwiseConv2D((height, width), depth_multiplier=outputs, name="depthwise_conv", **options)
    else:
        groups = tensor.shape[-1] // inputs
        layer = layers.Conv2D(outputs, (height, width), groups=groups, name="conv", **options)
    return Replacement(layer, tensor, (kernel,))


def _depthwise(call: Call) -> Result:
    return _convolution(call, depthwise=True)


def _bias_add(call: Call) -> Result:
    if call.get("data_format") not in (None, "NHWC", "N...C"):
        return None
    return with_array("Shift", call["value"], call["bias"])


def _matmul(call: Call) -> Result:
    tensor, kernel = call["a"], None if is_tensor(call["b"]) else _kernel(call["b"])
    flags = ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse")
    if kernel is None or not is_tensor(tensor) or tensor.shape.rank != 2 or any(call.get(flag) for flag in flags):
        return None
    trainable = isinstance(kernel, Owned) and kernel.trainable
    layer = layers.Dense(kernel.shape[1], use_bias=False, trainable=trainable, name="dense")
    return Replacement(layer, tensor, (kernel,))


IMAGES: dict[str, Callable[[Call], Result]] = {
    "math.reduce_mean": _reduce("mean", layers.GlobalAveragePooling2D),
    "math.reduce_max": _reduce("max", layers.GlobalMaxPooling2D),
    "math.reduce_min": _reduce("min"),
    "math.reduce_sum": _reduce("sum"),
    "image.resize": _resize,
    "nn.depth_to_space": _depth(inverse=False),
    "nn.space_to_depth": _depth(inverse=True),
    "nn.max_pool2d": _pool(layers.MaxPooling2D, "max_pool"),
    "nn.max_pool": _pool(layers.MaxPooling2D, "max_pool"),
    "nn.avg_pool2d": _pool(layers.AveragePooling2D, "average_pool"),
    "nn.avg_pool": _pool(layers.AveragePooling2D, "average_pool"),
    "nn.conv2d": _convolution,
    "nn.convolution": _convolution,
    "nn.depthwise_conv2d": _depthwise,
    "nn.bias_add": _bias_add,
    "linalg.matmul": _matmul,
}
