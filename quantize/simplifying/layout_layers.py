"""Layers of channels-first images and of sequences, each as the layer of channels-last images that means the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tf_keras import layers

from edgeship.quantize.simplifying.rewrites import activation_kind

PLANAR = (
    layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose, layers.MaxPooling2D,
    layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.ZeroPadding2D,
    layers.Cropping2D, layers.UpSampling2D,
)


@dataclass(frozen=True)
class InPlace:
    """Layers to call one after the other, and the activation that is left because it looks along an axis."""

    chain: list[Any]
    weights: list[np.ndarray]  # of the last one
    trainable: bool
    activation: str | None = None

    def call(self, tensor: Any) -> Any:
        for layer in self.chain:
            fresh = not layer.built
            tensor = layer(tensor)
            if fresh and layer.weights:
                layer.set_weights(self.weights)
                layer.trainable = self.trainable
        return tensor


def is_channels_first(layer: Any) -> bool:
    """Whether a layer of images or sequences has its channels on the first axis."""
    return type(layer) in (*PLANAR, *ONE_ROW) and getattr(layer, "data_format", None) == "channels_first"


def in_place_of(layer: Any, shape: Any) -> InPlace:
    """What stands for a layer on a channels-last image, a sequence being one row of an image.

    Args:
        shape: of that image, `(batch, rows, columns, channels)`.
    """
    config = layer.get_config()
    left_over = None
    if "activation" in config and activation_kind(layer.activation) in ("softmax", "log_softmax"):
        left_over = activation_kind(layer.activation)
        config["activation"] = "linear"
    config = {key: value for key, value in config.items() if not key.endswith("_initializer")}
    if "data_format" in config:
        config["data_format"] = "channels_last"
    weights = layer.get_weights()
    if type(layer) not in ONE_ROW:
        return InPlace([type(layer).from_config(config)], weights, layer.trainable, left_over)
    kind, options = ONE_ROW[type(layer)]
    config = {key: value for key, value in config.items() if not key.endswith("_constraint")}
    chain = []
    if config.get("padding") == "causal":
        # As many zeros in front as the kernel looks back.
        before = config["dilation_rate"][0] * (config["kernel_size"][0] - 1)
        chain.append(layers.ZeroPadding2D(((0, 0), (before, 0)), name=f"{layer.name}_causal"))
        config["padding"] = "valid"
    chain.append(kind.from_config(options(config)))
    return InPlace(chain, [values[None] if values.ndim > 1 else values for values in weights],
                   layer.trainable, left_over)


def _row(value: Any, *, rows: Any) -> Any:
    """A sequence's size as (rows, columns)."""
    return (rows, value[0] if isinstance(value, list | tuple) else value)


def _sizes(**rows: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The configuration with these sizes as (rows, columns); the value is what the rows get."""

    def options(config: dict[str, Any]) -> dict[str, Any]:
        return {key: _row(value, rows=rows[key]) if key in rows and value is not None else value
                for key, value in config.items()}

    return options


def _equal_strides(config: dict[str, Any]) -> dict[str, Any]:
    """A depthwise convolution has one stride for both axes; on one row it may be any."""
    stride = config["strides"][0] if isinstance(config["strides"], list | tuple) else config["strides"]
    return {**_sizes(kernel_size=1, dilation_rate=1)(config), "strides": (stride, stride)}


def _ends(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """(left, right) of a sequence as ((0, 0), (left, right))."""
    return lambda config: {**config, key: ((0, 0), tuple(config[key]))}


_CONVOLUTION = _sizes(kernel_size=1, strides=1, dilation_rate=1, output_padding=0)
_POOLING = _sizes(pool_size=1, strides=1)
# A layer of sequences -> its counterpart for images, and how the configuration of the one becomes the other's.
ONE_ROW: dict[type, tuple[Any, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    layers.Conv1D: (layers.Conv2D, _CONVOLUTION),
    layers.Conv1DTranspose: (layers.Conv2DTranspose, _CONVOLUTION),
    layers.DepthwiseConv1D: (layers.DepthwiseConv2D, _equal_strides),
    layers.SeparableConv1D: (layers.SeparableConv2D, _equal_strides),
    layers.MaxPooling1D: (layers.MaxPooling2D, _POOLING),
    layers.AveragePooling1D: (layers.AveragePooling2D, _POOLING),
    layers.GlobalAveragePooling1D: (layers.GlobalAveragePooling2D, dict),
    layers.GlobalMaxPooling1D: (layers.GlobalMaxPooling2D, dict),
    layers.ZeroPadding1D: (layers.ZeroPadding2D, _ends("padding")),
    layers.Cropping1D: (layers.Cropping2D, _ends("cropping")),
    layers.UpSampling1D: (layers.UpSampling2D, lambda config: {**config, "size": (1, config["size"])}),
}
