"""Operators on images (pooling, moves, convolutions) -> layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.quantize.lowering.operator_arguments import (
    Call,
    Owned,
    Replacement,
    Result,
    as_array,
    is_tensor,
)
from edgeship.quantize.lowering.operators_arithmetic import with_array
from edgeship.quantize.lowering.operators_products import kernel_of, trains
from edgeship.quantize.lowering.operators_resize import RESIZES


def _reduce(kind: str, image: Any = None, sequence: Any = None) -> Callable[[Call], Result]:
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
        if sequence is not None and tensor.shape.rank == 3 and axes == [1]:
            return Replacement(sequence(keepdims=keepdims, name="pool"), tensor)
        return Replacement(flat_layers.Reduce(kind, axes, keepdims, name=kind), tensor)

    return build


def _depth(*, inverse: bool) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        if call.get("data_format", "NHWC") != "NHWC":
            return None
        name = "space_to_depth" if inverse else "depth_to_space"
        return Replacement(flat_layers.DepthToSpace(int(call["block_size"]), inverse, name=name), call["input"])

    return build


# TensorFlow's names of a layout -> Keras'.
FORMATS = {None: "channels_last", "NHWC": "channels_last", "NCHW": "channels_first"}


def _pair(value: Any, layout: str = "channels_last") -> tuple[int, int] | None:
    """(height, width) out of TensorFlow's 2, [2], [2, 2] or one number per axis; None for anything else."""
    sizes = [int(item) for item in np.atleast_1d(1 if value is None else as_array(value))]
    if len(sizes) == 4:
        image = slice(1, 3) if layout == "channels_last" else slice(2, 4)
        sizes = sizes[image] if np.prod(sizes) == np.prod(sizes[image]) else []
    return (sizes[0], sizes[-1]) if len(sizes) in (1, 2) else None


def _padding(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) and value.upper() in ("SAME", "VALID") else None


def _pool(layer: Any, name: str) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        tensor, layout = call["input"], FORMATS.get(call.get("data_format"))
        if layout is None or tensor.shape.rank != 4:
            return None
        size, strides = _pair(call["ksize"], layout), _pair(call["strides"], layout)
        padding = _padding(call["padding"])
        if None in (size, strides, padding):
            return None
        return Replacement(layer(size, strides, padding, data_format=layout, name=name), tensor)

    return build


def _pool1d(layer: Any, name: str) -> Callable[[Call], Result]:
    def build(call: Call) -> Result:
        tensor, padding = call["input"], _padding(call["padding"])
        # One number, or one for each axis: batch, steps, features.
        sizes = [list(np.atleast_1d(as_array(call[key]))) for key in ("ksize", "strides")]
        plain = all(len(item) == 1 or (len(item) == 3 and item[0] == item[2] == 1) for item in sizes)
        if call.get("data_format") != "NWC" or tensor.shape.rank != 3 or padding is None or not plain:
            return None
        size, strides = (int(item[len(item) // 2]) for item in sizes)
        return Replacement(layer(size, strides, padding, name=name), tensor)

    return build


def _convolution(call: Call, *, depthwise: bool = False) -> Result:
    tensor, kernel = call["input"], kernel_of(call.first("filters", "filter"))
    layout, padding = FORMATS.get(call.get("data_format")), _padding(call.get("padding", "VALID"))
    if kernel is None or padding is None or layout is None or tensor.shape.rank != 4 or len(kernel.shape) != 4:
        return None
    strides, dilation = (
        _pair(value, layout) for value in (call.get("strides"), call.first("dilations", "dilation_rate", "rate"))
    )
    if strides is None or dilation is None:
        return None
    height, width, inputs, outputs = kernel.shape
    options = {"use_bias": False, "trainable": trains(kernel), "strides": strides, "padding": padding,
               "dilation_rate": dilation, "data_format": layout}
    if depthwise:
        layer = layers.DepthwiseConv2D((height, width), depth_multiplier=outputs, name="depthwise_conv", **options)
    else:
        groups = tensor.shape[-1 if layout == "channels_last" else 1] // inputs
        layer = layers.Conv2D(outputs, (height, width), groups=groups, name="conv", **options)
    return Replacement(layer, tensor, (kernel,))


def _depthwise(call: Call) -> Result:
    return _convolution(call, depthwise=True)


def _conv1d(call: Call) -> Result:
    tensor, kernel, padding = call["input"], kernel_of(call["filters"]), _padding(call["padding"])
    strides, dilation = (np.atleast_1d(1 if value is None else as_array(value)) for value in (
        call.get("stride"), call.get("dilations")
    ))
    if kernel is None or padding is None or tensor.shape.rank != 3 or strides.size > 1 or dilation.size > 1:
        return None
    if call.get("data_format") not in (None, "NWC"):
        return None
    layer = layers.Conv1D(
        kernel.shape[2], kernel.shape[0], int(strides[0]), padding, dilation_rate=int(dilation[0]), use_bias=False,
        groups=tensor.shape[-1] // kernel.shape[1], trainable=trains(kernel), name="conv",
    )
    return Replacement(layer, tensor, (kernel,))


def _bias_add(call: Call) -> Result:
    tensor, bias, layout = call["value"], call["bias"], call.get("data_format")
    if layout in (None, "NHWC", "N...C"):
        return with_array("Shift", tensor, bias)
    if layout not in ("NCHW", "NC...") or is_tensor(bias):
        return None
    shape = (-1, *[1] * (tensor.shape.rank - 2))
    if isinstance(bias, Owned):
        used = (1, int(np.prod(bias.shape)), *shape[1:])
        return with_array("Shift", tensor, dataclasses.replace(bias, used_shape=used))
    return with_array("Shift", tensor, np.reshape(bias, shape))


IMAGES: dict[str, Callable[[Call], Result]] = {
    "math.reduce_mean": _reduce("mean", layers.GlobalAveragePooling2D, layers.GlobalAveragePooling1D),
    "math.reduce_max": _reduce("max", layers.GlobalMaxPooling2D, layers.GlobalMaxPooling1D),
    "math.reduce_min": _reduce("min"),
    "math.reduce_sum": _reduce("sum"),
    **RESIZES,
    "nn.depth_to_space": _depth(inverse=False),
    "nn.space_to_depth": _depth(inverse=True),
    "nn.max_pool2d": _pool(layers.MaxPooling2D, "max_pool"),
    "nn.max_pool": _pool(layers.MaxPooling2D, "max_pool"),
    "nn.avg_pool2d": _pool(layers.AveragePooling2D, "average_pool"),
    "nn.avg_pool": _pool(layers.AveragePooling2D, "average_pool"),
    "nn.max_pool1d": _pool1d(layers.MaxPooling1D, "max_pool"),
    "nn.avg_pool1d": _pool1d(layers.AveragePooling1D, "average_pool"),
    "nn.conv2d": _convolution,
    "nn.convolution": _convolution,
    "nn.depthwise_conv2d": _depthwise,
    "nn.conv1d": _conv1d,
    "nn.bias_add": _bias_add,
}
