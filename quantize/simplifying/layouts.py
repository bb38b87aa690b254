"""Layers that count their axes otherwise -> layers of `(batch, rows, columns, channels)`, which integers are made for.

Channels-first layers, layers of sequences (an image of one row), batch norms and softmaxes over another axis than the
last, and arrays that broadcast over any axes: each is one transpose or reshape away from a layer that both runtimes
have. The transposes are put off (`views`): what stands between two of these layers and treats all elements alike
computes in the layout that it finds, so that only the transposes at the ends are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model import flat_layers
from edgeship.model.keras2 import maker_of, nested_inputs, nested_outputs, read_by
from edgeship.quantize.simplifying.layout_layers import ONE_ROW, in_place_of, is_channels_first
from edgeship.quantize.simplifying.rebuild import nodes_of, rebuild
from edgeship.quantize.simplifying.rewrites import NOTHING, activation_kind
from edgeship.quantize.simplifying.views import View, Views

OVER_AN_AXIS = ("softmax", "log_softmax")
# Treat all elements alike, wherever they stand.
ELEMENTWISE = (
    layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.ThresholdedReLU, flat_layers.Clip,
    flat_layers.ErfGelu,
)
# Compute along the last axis, whatever axes come before.
LAST_AXIS = (layers.Dense,)
# Depend on the order of all elements alone.
IN_ORDER = (layers.Flatten, layers.Reshape)
WITH_AXIS = (layers.BatchNormalization, layers.experimental.SyncBatchNormalization, layers.Softmax)
MERGES = (layers.Add, layers.Multiply, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)


def with_channels_last(model: tf_keras.Model, *, arrays: bool = False) -> tf_keras.Model:
    """The same network with every layer in the layout that integers know; the model itself where all of it is.

    Args:
        arrays: also where an array, or a PReLU's slopes, broadcast over other axes than all but the last: that takes
            reshapes, which only integers need.
    """
    if not any(_is_foreign(node, arrays) for node in nodes_of(model)):
        return model
    made = _Layouts(model, arrays).rebuilt()
    structured = tf_keras.Model(
        tf.nest.pack_sequence_as(nested_inputs(model), made.inputs),
        tf.nest.pack_sequence_as(nested_outputs(model), made.outputs), name=model.name,
    )
    structured.output_names = list(model.output_names)
    return structured


def _is_foreign(node: Any, arrays: bool) -> bool:
    layer, rank = node.layer, tf.nest.flatten(read_by(node))[0].shape.rank
    if type(layer) in ONE_ROW or is_channels_first(layer):
        return True
    axes = _axes_of(layer, rank, arrays)
    return axes is not None and axes != (rank - 1,)


def _axes_of(layer: Any, rank: int, arrays: bool) -> tuple[int, ...] | None:
    """The axes along which a layer treats elements differently; None for layers of which this is not known."""
    if type(layer) in WITH_AXIS:
        axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    elif type(layer) is layers.Activation and activation_kind(layer.activation) in OVER_AN_AXIS:
        axes = [-1]
    elif arrays and (array := _array_of(layer)) is not None:
        full = (1,) * (rank - array.ndim) + array.shape
        axes = [axis for axis, size in enumerate(full) if size != 1] or [-1]
    else:
        return None
    return tuple(sorted(axis % rank for axis in axes))


def _is_scalar_rescaling(layer: Any) -> bool:
    return type(layer) is layers.Rescaling and np.size(layer.scale) == np.size(layer.offset) == 1


def _array_of(layer: Any) -> np.ndarray | None:
    """The array that a layer computes every example with, in the shape in which it broadcasts; None without one."""
    if type(layer) is layers.PReLU:
        return np.asarray(layer.alpha)
    if isinstance(layer, flat_layers.ArrayScale | flat_layers.ArrayShift):
        return np.asarray(layer.array())
    return None


class _Layouts:
    """One network on its way to the layout of integers."""

    def __init__(self, model: tf_keras.Model, arrays: bool) -> None:
        self._model, self._arrays = model, arrays
        self._views = Views([layer.name for layer in model.layers if not isinstance(layer, layers.Permute)])
        self._made: dict[Any, Any] = {}  # (id of an old layer, which part of it) -> the new layer
        self._seen: list[Any] = []  # keeps those ids from being reused
        self._outputs = {id(tensor) for tensor in model.outputs}

    def rebuilt(self) -> tf_keras.Model:
        return rebuild(self._model, self._replay, forward=self._keep)

    def _keep(self, old: Any, new: Any) -> Any:
        view = new if isinstance(new, View) else View(new, tuple(range(new.shape.rank)))
        return self._views.plain(view, reader=maker_of(old).name) if id(old) in self._outputs else view

    def _replay(self, node: Any, args: Any, kwargs: Any) -> Any:
        layer = node.layer
        views = [item for item in tf.nest.flatten((args, kwargs)) if isinstance(item, View)]
        if type(layer) in NOTHING:
            return views[0]
        if type(layer) is layers.Permute:
            return View(views[0].base, tuple(views[0].axes[axis] for axis in (0, *layer.dims)), name=layer.name)
        if type(layer) in ONE_ROW or is_channels_first(layer):
            return self._planar(layer, views[0])
        axes = self._axes(layer, views[0]) if len(views) == 1 else None
        if axes is not None:
            return self._along(layer, views[0], axes)
        if type(layer) in ELEMENTWISE or _is_scalar_rescaling(layer):
            return views[0].of(self._call(layer, views[0].base))
        if type(layer) in LAST_AXIS and views[0].has_last_axis:
            return views[0].of(self._call(layer, views[0].base))
        if type(layer) in IN_ORDER and views[0].is_in_order:
            return self._call(layer, views[0].base)
        if type(layer) is flat_layers.StridedSlice:
            return self._sliced(layer, views[0])
        if type(layer) is flat_layers.Take:
            return views[0].of(self._call_along(layer, views[0].axes[layer.axis], views[0].base))
        if type(layer) in (*MERGES, layers.Concatenate) and len({view.rank for view in views}) == 1:
            return self._merge(layer, views)
        plain = tf.nest.map_structure(
            lambda item: self._views.plain(item, reader=layer.name) if isinstance(item, View) else item, (args, kwargs)
        )
        return self._call(layer, *plain[0], **plain[1])

    def _axes(self, layer: Any, view: View) -> tuple[int, ...] | None:
        """The axes that `_along` has to put last; an array along the last axis costs nothing there."""
        axes = _axes_of(layer, view.rank, True)
        is_free = axes == (view.rank - 1,) and view.has_last_axis and not view.is_plain
        return axes if is_free else _axes_of(layer, view.rank, self._arrays)

    # --- kinds of layers ------------------------------------------------------------------------------------------

    def _planar(self, layer: Any, view: View) -> View:
        """Layers of images and of sequences: their channels last, a sequence on one row."""
        first = is_channels_first(layer)
        order: tuple[int | None, ...]
        back: tuple[int, ...]
        if type(layer) in ONE_ROW:
            order, back = ((0, None, 2, 1), (0, 3, 2)) if first else ((0, None, 1, 2), (0, 2, 3))
        else:
            order, back = (0, 2, 3, 1), (0, 3, 1, 2)
        tensor = self._views.arranged(view, order, reader=layer.name)
        key = (id(layer), "planar")
        if key not in self._made:
            self._made[key] = in_place_of(layer, tensor.shape)
        parts = self._made[key]
        result = View(parts.call(tensor), back)
        if result.base.shape.rank == 2:
            result = View(result.base, (0, 1))
        if parts.activation is None:
            return result
        softmax = layers.Activation(parts.activation, name=self._views.unused(f"{layer.name}_{parts.activation}"))
        return self._along(softmax, result, (result.rank - 1,))

    def _along(self, layer: Any, view: View, axes: tuple[int, ...]) -> View:
        """Layers that treat the elements along some axes differently: those as the last axis, as one."""
        order = (*(axis for axis in range(view.rank) if axis not in axes), *axes)
        if len(axes) == 1:
            if view.order[-1] != axes[0]:
                view = self._seen_as(view, order, layer.name)
            return view.of(self._call_last(layer, view.base, 1))
        shape = [view.shape[axis] for axis in order]
        tensor = self._views.arranged(view, order, reader=layer.name)
        kept = len(shape) - len(axes)
        whole = math.prod(size or 1 for size in shape[kept:])
        # As an image where that is possible: there such layers become products.
        merged = (*shape[1:kept], *[1] * (3 - kept), whole)
        flat = layers.Reshape(merged, name=self._views.unused(f"{layer.name}_merged"))(tensor)
        result = self._call_last(layer, flat, len(axes))
        split = layers.Reshape(shape[1:], name=self._views.unused(f"{layer.name}_split"))(result)
        return View(split, tuple(order.index(axis) for axis in range(view.rank)))

    def _seen_as(self, view: View, order: tuple[int, ...], reader: str) -> View:
        tensor = self._views.arranged(view, order, reader=reader)
        return View(tensor, tuple(order.index(axis) for axis in range(view.rank)))

    def _sliced(self, layer: Any, view: View) -> View:
        """Part of a tensor: one position of an axis is an axis of size 1, which the view leaves out."""
        slices: list[Any] = [(None, None, None)] * (view.base.shape.rank - 1)
        kept = [0]
        for axis in range(1, view.rank):
            item = layer.slices[axis - 1] if axis <= len(layer.slices) else (None, None, None)
            if isinstance(item, int):
                item = (item, item + 1 or None, None)
            else:
                kept.append(axis)
            slices[view.axes[axis] - 1] = item
        made = self._once((id(layer), *slices), layer, lambda: flat_layers.StridedSlice(slices, name=layer.name))
        return View(made(view.base), tuple(view.axes[axis] for axis in kept))

    def _merge(self, layer: Any, views: list[View]) -> View:
        """Several tensors in the layout of the first one that has a layout of its own."""
        like = next((view for view in views if view.order != tuple(range(view.rank))), views[0])
        tensors = [self._views.arranged(view, like.order, reader=layer.name) for view in views]
        if type(layer) is layers.Concatenate:
            return like.of(self._call_along(layer, like.axes[layer.axis % like.rank], tensors))
        return like.of(self._call(layer, tensors))

    # --- layers ---------------------------------------------------------------------------------------------------

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return self._once((id(layer), None), layer, lambda: _copy(layer))(*args, **{
            key: value for key, value in kwargs.items() if key != "training"
        })

    def _call_along(self, layer: Any, axis: int, tensor: Any) -> Any:
        """A layer that works along one axis, whatever axis of the new graph that is."""
        return self._once((id(layer), axis), layer, lambda: _copy(layer, axis=axis))(tensor)

    def _call_last(self, layer: Any, tensor: Any, merged: int) -> Any:
        """A layer along the last axis, whatever axes that was."""
        return self._once((id(layer), "last", tensor.shape.rank), layer, lambda: LAST[type(layer)](
            layer, tensor.shape
        ))(tensor)

    def _once(self, key: Any, layer: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
            self._seen.append(layer)
        made = self._made[key]

        def call(*args: Any, **kwargs: Any) -> Any:
            fresh = not made.built
            outputs = made(*args, **kwargs)
            if fresh and made.weights:
                made.set_weights([
                    weight.numpy().reshape(own.shape) for weight, own in zip(layer.weights, made.weights, strict=True)
                ])
                made.trainable = layer.trainable
            return outputs

        return call


def _copy(layer: Any, **changes: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), **changes})


def _last_array(layer: Any, shape: Any) -> Any:
    """An array along the last axis: a weight stays one."""
    kind = flat_layers.ChannelScale if isinstance(layer, flat_layers.ArrayScale) else flat_layers.ChannelShift
    options = {"negative": layer.negative} if kind is flat_layers.ChannelShift else {}
    array = np.asarray(layer.array()).reshape(-1)
    if layer.values is None:
        return kind(shape=array.shape, name=layer.name, **options)
    return kind(values=array, name=layer.name, **options)


LAST: dict[type, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(WITH_AXIS, lambda layer, shape: _copy(layer, axis=-1)),
    layers.Activation: lambda layer, shape: _copy(layer),
    layers.PReLU: lambda layer, shape: layers.PReLU(
        shared_axes=list(range(1, shape.rank - 1)) or None, name=layer.name
    ) if np.size(layer.alpha) > 1 else layers.PReLU(shared_axes=list(range(1, shape.rank)), name=layer.name),
    **dict.fromkeys(
        (flat_layers.ArrayScale, flat_layers.ArrayShift, flat_layers.ChannelScale, flat_layers.ChannelShift),
        _last_array,
    ),
}
