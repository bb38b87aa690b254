"""A flat float model -> the same network in the few layers that integers can compute.

`lower` keeps the network as it was written, bit for bit. Integer kernels know less: a product with weights and a
bias, an addition, a multiplication, a pooling. Here batch norms and constant scalings are folded into the products
before them, activations are split off, and what is left alone becomes a product of its own. The results differ from
the original's by float32 rounding only, and what is quantized, trained and exported afterwards is this network: the
weights that are rounded to integers are the weights that ship.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.model.keras2 import maker_of, node_of, read_by
from edgeship.quantize.simplifying.affine import Affine, Depthwise, affine_of
from edgeship.quantize.simplifying.kinks import without_kinks_by_hand
from edgeship.quantize.simplifying.layouts import with_channels_last
from edgeship.quantize.simplifying.precision import float32_policy
from edgeship.quantize.simplifying.rebuild import Copies, call, nodes_of, readers_of, rebuild
from edgeship.quantize.simplifying.rewrites import LATE_REWRITES, REWRITES, Replacement, is_relu, weights_of
from edgeship.quantize.simplifying.roles import Role, fixed_range, role_of, upper_end
from edgeship.quantize.simplifying.split_channels import with_whole_channels


def simplify(flat: tf_keras.Model) -> tf_keras.Model:
    """Fold and split until only layers of `roles.py` are left, as far as that is possible.

    Args:
        flat: a lowered model.

    Returns:
        A model with weights of its own, the same inputs, and outputs equal to float32 rounding under the same names.
        Layers keep their names; a layer split off `x` is called `x_<what it does>`. Dropout and its kind are gone:
        what is trained from here on is the network as it runs on a device.
    """
    with float32_policy():
        model = with_whole_channels(without_kinks_by_hand(flat))
        model = with_channels_last(model, arrays=True)
        model = _rewrite(model, REWRITES)
        while (folded := _fold(model)) is not None or (folded := _stand_alone(model)) is not None:
            model = folded
        if any(type(layer) in LATE_REWRITES for layer in model.layers):  # building a network takes seconds
            model = _rewrite(model, LATE_REWRITES)
        model = _separate_prescribed(model)
    model.output_names = flat.output_names
    return model


def _rewrite(
    model: tf_keras.Model, table: dict[type, Callable[[Any], Replacement | None]]
) -> tf_keras.Model:
    """Replace every layer that has an entry in a table of rewrites."""
    copies = Copies()
    taken = {layer.name for layer in model.layers}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        rewrite = table.get(type(node.layer))
        parts = rewrite(node.layer) if rewrite else None
        if parts is None:
            return call(copies, node.layer, args, kwargs)
        made = copies.of(node.layer, lambda: parts)
        made.taken = taken
        outputs = made.apply(*args)
        made.load()
        return outputs

    return rebuild(model, replay)


def _fold(model: tf_keras.Model) -> tf_keras.Model | None:
    """Fold every affine layer that stands behind weights; None where there is none."""
    folds = _possible_folds(model)
    if not folds:
        return None
    copies = Copies()
    by_affine = {id(fold.affine_layer): fold for fold in folds}
    by_weighted = {id(fold.weighted): fold for fold in folds}
    by_relu = {id(fold.relu): fold for fold in folds if fold.relu is not None}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        layer = node.layer
        if id(layer) in by_affine:
            return args[0]
        if id(layer) in by_weighted:
            fold = by_weighted[id(layer)]
            made = copies.of(layer, lambda: _with_bias(layer))
            fresh = not made.built
            outputs = made(*args)
            if fresh:
                made.set_weights(_folded_weights(layer, fold.affine))
                made.trainable = layer.trainable
            return outputs
        if id(layer) in by_relu:
            scale = float(by_relu[id(layer)].affine.scale.flat[0])
            made = copies.of(layer, lambda: layers.ReLU(
                None if layer.max_value is None else float(layer.max_value) * scale, name=layer.name
            ))
            return made(*args)
        return call(copies, layer, args, kwargs)

    return rebuild(model, replay)


class _Fold:
    """One affine layer, the weights it goes into, and the ReLU in between, if any."""

    def __init__(self, affine_layer: Any, affine: Affine, weighted: Any, relu: Any) -> None:
        self.affine_layer, self.affine, self.weighted, self.relu = affine_layer, affine, weighted, relu


def _possible_folds(model: tf_keras.Model) -> list[_Fold]:
    readers = readers_of(model)
    calls: dict[int, list[Any]] = {}
    for node in nodes_of(model):
        calls.setdefault(id(node.layer), []).append(node)

    def before(layer: Any) -> Any:
        """The one layer all of whose outputs are read by this one alone, and which it reads alone; or None."""
        sources = [node_of(read_by(node)[0]) for node in calls[id(layer)]]
        source = sources[0].layer
        if any(node.layer is not source for node in sources) or len(calls.get(id(source), [])) != len(sources):
            return None
        # A list of outputs is no tensor, so nothing reads it.
        if any(readers.get(id(node.outputs)) != [reader] for node, reader in
               zip(sources, calls[id(layer)], strict=True)):
            return None
        return source

    found: list[_Fold] = []
    taken: set[int] = set()
    for nodes in calls.values():
        layer = nodes[0].layer
        affine = affine_of(layer)
        if affine is None:
            continue
        source, relu = before(layer), None
        if affine.is_positive_scale and is_relu(source):
            # c * relu(x) = relu(c * x) for c > 0, with the upper end scaled too.
            source, relu = before(source), source
        if type(source) not in weights_of or id(source) in taken:
            continue
        taken.add(id(source))
        found.append(_Fold(layer, affine, source, relu))
    return found


def _stand_alone(model: tf_keras.Model) -> tf_keras.Model | None:
    """Turn affine layers that no weights stand before into products of their own; None where there is none."""
    alone = {
        id(node.layer) for node in nodes_of(model)
        if affine_of(node.layer) is not None and affine_of(_before_relu(node)) is None
        and Depthwise.fits(read_by(node)[0].shape)
    }
    if not alone:
        return None
    copies = Copies()

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        if id(node.layer) not in alone:
            return call(copies, node.layer, args, kwargs)
        affine = affine_of(node.layer)
        assert affine is not None
        made = copies.of(node.layer, lambda: Depthwise(
            affine, args[0].shape, name=node.layer.name, trainable=node.layer.trainable
        ))
        return made.apply(args[0])

    return rebuild(model, replay)


def _separate_prescribed(model: tf_keras.Model) -> tf_keras.Model:
    """Put a product with one between a prescribed range and a concatenation with others.

    A concatenation has one grid, and a sigmoid's is prescribed, so something must compute the one from the other: the
    TFLite converter (2.21) refuses to ("quantization parameters violate the same scale constraint"). A ReLU with an
    upper end clips by the end of its range; on a larger one it would need an operation that ONNX Runtime has in
    float alone, and for ends other than 6 TFLite too.
    """
    prescribed: dict[int, Any] = dict.fromkeys(map(id, model.inputs))
    changing: set[tuple[int, int]] = set()  # (id(concatenation), position of the input)
    for node in nodes_of(model):
        ranges = [prescribed[id(tensor)] for tensor in read_by(node)]
        role, mixed = role_of(node.layer), len(set(ranges)) > 1
        if type(node.layer) is layers.Concatenate and mixed:
            changing |= {(id(node.layer), at) for at, span in enumerate(ranges) if span is not None}
        moved = ranges[0] if role is Role.SAME and not mixed else None
        own = fixed_range(node.layer) if role is Role.FIXED else upper_end(node.layer)
        for tensor in tf.nest.flatten(node.outputs):
            prescribed[id(tensor)] = moved if own is None else own
    if not changing:
        return model
    copies, products = Copies(), {}

    def replay(node: Any, args: Any, kwargs: Any) -> Any:
        if type(node.layer) is not layers.Concatenate:
            return call(copies, node.layer, args, kwargs)
        tensors = list(args[0])
        for at, tensor in enumerate(tensors):
            key = (id(node.layer), at)
            if key not in changing:
                continue
            if key not in products:
                one = Affine(np.ones(()), np.zeros(()))
                name = f"{node.layer.name}_input{at + 1}"
                products[key] = Depthwise(one, tensor.shape, name=name, trainable=False)
            tensors[at] = products[key].apply(tensor)
        return call(copies, node.layer, (tensors,), kwargs)

    return rebuild(model, replay)


def _before_relu(node: Any) -> Any:
    """The layer before a node, or before the ReLU before it: once that is a product, the node may go into it."""
    source = node_of(read_by(node)[0])
    return maker_of(read_by(source)[0]) if is_relu(source.layer) else source.layer


def _with_bias(layer: Any) -> Any:
    config = copy.deepcopy(layer.get_config())
    # A constraint was one on the weights before anything was folded into them.
    config.update(use_bias=True, **{key: None for key in config if key.endswith("_constraint")})
    return type(layer).from_config(config)


def _folded_weights(layer: Any, affine: Affine) -> list[np.ndarray]:
    """(kernel, bias) of act(scale * (w x + b) + offset): computed in float64, rounded once."""
    kernel, *bias = [np.asarray(weight, np.float64) for weight in layer.get_weights()]
    outputs = np.prod([kernel.shape[axis] for axis in weights_of[type(layer)].output_axes])
    scale, offset = (np.broadcast_to(values, (outputs,)) for values in (affine.scale, affine.offset))
    shape = [1] * kernel.ndim
    for axis in weights_of[type(layer)].output_axes:
        shape[axis] = kernel.shape[axis]
    old = bias[0] if bias else np.zeros(outputs)
    return [(kernel * scale.reshape(shape)).astype(np.float32), (old * scale + offset).astype(np.float32)]
