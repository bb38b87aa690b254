"""The new graph of a lowered model while it grows: one fresh layer per layer, names, and the account of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model.flat_layers import Constant
from edgeship.model.keras2 import (
    arguments_of,
    computes_its_graph,
    inputs_in_order,
    is_tensor,
    layers_of,
    maker_of,
    nested_inputs,
    nested_outputs,
    rename,
    training_of,
    was_called,
)
from edgeship.quantize.lowering.fixed_values import Fixed, anchor_of, fixed_values, owned_by
from edgeship.quantize.lowering.kinds import (
    AUGMENTATION,
    MAX_DEPTH,
    describe,
    is_composite,
    plain_class,
    position_wise,
)
from edgeship.quantize.lowering.layer_copies import copy_of, foreign_activation, own_weights, stand_in_for
from edgeship.quantize.lowering.operator_arguments import Owned, Replacement
from edgeship.quantize.lowering.operators import is_operator, operation_of, replacement_of
from edgeship.quantize.lowering.trace import nodes_between, trace
from edgeship.quantize.lowering.training_calls import in_inference


@dataclass(frozen=True)
class Scope:
    """Where a node stands: inside which composite, and what `training` that composite was called with."""

    name: str = ""
    training: bool | None = None
    depth: int = 0

    def of(self, name: str) -> str:
        return name if not self.name or name.startswith(self.name) else f"{self.name}_{name}"


class LoweredGraph:
    """Replays a model's nodes with layers of its own, opening what is composite on the way."""

    def __init__(self, sizes: Sequence[Sequence[int]] | None = None) -> None:
        """Take the sizes of the inputs, one after the other and without the batch axis, where the model's are open."""
        self._sizes = sizes
        self._layers: dict[int, Any] = {}  # id of a layer of the original -> its fresh layer
        self._originals: list[Any] = []  # keeps those ids from being reused
        self._names: set[str] = set()
        self._labels: dict[int, str] = {}
        self._taken: set[int] = set()  # ids of the original's variables that a fresh layer owns or has as constants
        self._stand_ins: dict[int, Any] = {}  # id of a layer that inherits from one of Keras' -> that one
        self._owners: dict[Any, Any] = {}  # a composite's own variable, or what it computes of it -> its layer

    def lower(self, model: tf_keras.Model) -> tuple[Any, Any]:
        """(inputs, outputs) of the flat graph, in the model's own structure."""
        if computes_its_graph(model):
            self._names |= {layer.name for layer in model.layers if not is_composite(layer)}
            old = nested_inputs(model)
            inputs = self._inputs(old, lambda tensor: maker_of(tensor).name)
            tensors = dict(zip(map(id, tf.nest.flatten(old)), tf.nest.flatten(inputs), strict=True))
            return inputs, self._replay(nested_outputs(model), tensors, Scope(), {})
        (*specs,), _ = model.save_spec()
        inputs = self._inputs(specs[0], lambda spec: spec.name or "input")
        self._names |= {maker_of(tensor).name for tensor in tf.nest.flatten(inputs)}
        outputs, disguised = trace(model, (inputs,), {})
        return inputs, self._replay(outputs, {id(t): t for t in tf.nest.flatten(inputs)}, Scope(), disguised)

    def check_no_weight_is_lost(self, model: tf_keras.Model, flat: tf_keras.Model) -> None:
        """Raise LoweringError for a trainable variable of a composite's own that nothing in the flat model owns.

        Layers that inference does not call (an auxiliary head used in training only) are left out with their weights.
        """
        uncalled = {
            id(weight)
            for layer in layers_of(model)
            if not is_composite(layer) and id(layer) not in self._layers
            for weight in layer.weights
        }
        lost = [weight for weight in model.trainable_weights if id(weight) not in self._taken | uncalled]
        if lost:
            owner = next(
                (layer.name for layer in model.layers if any(weight is lost[0] for weight in layer.weights)), model.name
            )
            raise LoweringError(
                f"{owner}: the variable {lost[0].name!r} belongs to no layer of the lowered network, so it would "
                f"neither train nor be quantized ({len(lost)} such); give it a layer of its own"
            )

    # --- nodes ------------------------------------------------------------------------------------------------

    def _replay(self, outputs: Any, tensors: dict[int, Any], scope: Scope, disguised: dict[int, Owned]) -> Any:
        """Replay the nodes from the tensors known (old id -> new tensor) to `outputs`; the new outputs."""
        for node in nodes_between(outputs, set(tensors)):
            layer = node.layer
            if isinstance(layer, layers.InputLayer):
                raise LoweringError(
                    f"{scope.name or 'model'}: its call() reads the tensor {layer.name!r} of another graph; "
                    "give it to the layer as an input"
                )
            args, kwargs = tf.nest.map_structure(lambda item: tensors.get(id(item), item), arguments_of(node))
            made = self._fixed(node, tensors, scope, disguised) if is_operator(layer) else None
            if made is None and is_operator(layer):
                made = self._operator(layer, args, kwargs, scope, disguised, node.outputs)
            elif made is None:
                args, kwargs = tf.nest.map_structure(_as_tensor, (args, kwargs))
                made = self._layer(layer, args, kwargs, scope)
            for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(made), strict=True):
                tensors[id(old)] = new
        return tf.nest.map_structure(lambda tensor: _as_tensor(tensors[id(tensor)]), outputs)

    def _fixed(
        self, node: Any, tensors: dict[int, Any], scope: Scope, disguised: dict[int, Owned]
    ) -> Fixed | None:
        """The real numbers that an operator computes from nothing but shapes; None for every other operator."""
        found = fixed_values(node)
        if found is None:
            return None
        values, is_per_example = found
        variables = owned_by(node, disguised)
        array = Owned(variables[0], values.shape, values, variables) if variables else values
        if not is_per_example:
            return Fixed(array, lambda: tf.constant(values))
        anchor = tensors[id(anchor_of(node))]

        def tensor() -> Any:
            weights = (Owned(variables[0], values[0].shape, values[0], variables),) if variables else ()
            made = Constant(shape=values[0].shape, name="constant") if variables else Constant(
                values[0], name="constant"
            )
            return self._apply(Replacement(made, _as_tensor(anchor), weights), scope)

        return Fixed(array, tensor)

    def _layer(self, layer: Any, args: Any, kwargs: Any, scope: Scope) -> Any:
        training = training_of(layer, args, kwargs)
        training = scope.training if training is None else training
        repeated = position_wise(layer)
        if repeated is not None:
            inner = Scope(self._label(layer, scope), training, scope.depth + 1)
            return self._layer(repeated, tuple(tf.nest.flatten((args, kwargs))[:1]), {}, inner)
        if is_composite(layer):
            return self._open(layer, args, kwargs, scope, training)
        args, kwargs = in_inference(layer, args, kwargs, training)
        if plain_class(layer) in AUGMENTATION:
            return tf.nest.flatten((args, kwargs))[0]
        if getattr(layer, "stateful", False):
            raise LoweringError(
                f"{describe(layer)}: a stateful layer: on a device the network keeps nothing between two images; "
                "build it with stateful=False"
            )
        function = foreign_activation(layer)
        if function is not None and isinstance(layer, layers.Activation):
            outputs = args[0]
        else:
            outputs = self._call(layer, args, kwargs, scope, linear=function is not None)
        if function is None:
            return outputs
        return self._activate(function, outputs, layer, scope)

    def _open(self, layer: Any, args: Any, kwargs: Any, scope: Scope, training: bool | None) -> Any:
        """Replace a composite by what its own `call()` does."""
        if scope.depth == MAX_DEPTH:
            raise LoweringError(f"{describe(layer)}: composite layers nested more than {MAX_DEPTH} deep")
        inner = Scope(self._label(layer, scope), training, scope.depth + 1)
        if computes_its_graph(layer):
            given = inputs_in_order(layer, args[0])
            tensors = dict(zip(map(id, layer.inputs), given, strict=True))
            return self._replay(nested_outputs(layer), tensors, inner, {})
        outputs, disguised = trace(layer, args, kwargs, stand_in=self._stand_in(layer))
        known = {id(item): item for item in tf.nest.flatten((args, kwargs)) if is_tensor(item)}
        return self._replay(outputs, known, inner, disguised)

    def _stand_in(self, layer: Any) -> Any:
        if id(layer) not in self._stand_ins:
            self._stand_ins[id(layer)] = stand_in_for(layer)
            self._originals.append(layer)
        return self._stand_ins[id(layer)]

    def _activate(self, function: Any, tensor: Any, layer: Any, scope: Scope) -> Any:
        """Replay an activation function that is not one of Keras': a user's own, a tf function, a layer object."""
        inner = Scope(self._label(layer, scope), scope.training, scope.depth + 1)
        try:
            outputs = function(tensor)
        except Exception as error:
            raise LoweringError(
                f"{describe(layer)}: its activation could not be traced on symbolic tensors ({type(error).__name__})"
            ) from error
        return self._replay(outputs, {id(tensor): tensor}, inner, {})

    # --- layers -----------------------------------------------------------------------------------------------

    def _call(self, layer: Any, args: Any, kwargs: Any, scope: Scope, *, linear: bool) -> Any:
        if id(layer) not in self._layers:
            self._layers[id(layer)] = copy_of(layer, name=self._name(layer, scope), linear=linear)
            self._originals.append(layer)
        fresh = self._layers[id(layer)]
        first = not was_called(fresh)
        outputs = fresh(*args, **{key: value for key, value in kwargs.items() if value is not None})
        if first:
            own = own_weights(layer)
            self._taken |= {id(weight) for weight in own}
            if fresh.weights:
                fresh.set_weights([weight.numpy() for weight in own])
            fresh.trainable = layer.trainable
        return outputs

    def _operator(
        self, layer: Any, args: Any, kwargs: Any, scope: Scope, disguised: dict[int, Owned], outputs: Any
    ) -> Any:
        def value_of(item: Any) -> Any:
            if isinstance(item, Fixed):
                return item.array
            if isinstance(item, tf.Variable):
                return Owned(item, tuple(item.shape))
            if tf.is_tensor(item) and not is_tensor(item):
                return disguised.get(id(item)) or item.numpy()
            return item

        values = tf.nest.map_structure(value_of, (args, kwargs))
        where = scope.name or "model"
        result = replacement_of(layer, *values, scope=where, outputs=outputs)
        if result is None and any(isinstance(item, Fixed) for item in tf.nest.flatten((args, kwargs))):
            # What no layer takes as an array, such as a part of a concatenation, is a tensor of the graph.
            args, kwargs = tf.nest.map_structure(_as_tensor, (args, kwargs))
            return self._operator(layer, args, kwargs, scope, disguised, outputs)
        if result is not None:
            return self._apply(result, scope)
        operation = operation_of(layer)
        owned = [item for item in tf.nest.flatten(values) if isinstance(item, Owned)]
        self._taken |= {id(variable) for item in owned if item.values is not None for variable in item.variables}
        if owned := [item for item in owned if item.values is None]:
            raise LoweringError(
                f"{where}: the variable {owned[0].variable.name!r} belongs to no layer: tf.{operation} with it has no "
                "layer that means the same, so it would neither train nor be quantized; give it a layer of its own"
            )
        name = operation.rpartition(".")[2]
        if all(output.dtype == tf.int32 and output.shape.rank < 2 for output in tf.nest.flatten(outputs)):
            name = f"shape_{name}"  # most likely on its way to a reshape, which reads its static value
        kept = type(layer).from_config({**layer.get_config(), "name": self._unique(scope.of(name))})
        return kept(*args, **kwargs)

    def _apply(self, result: Any, scope: Scope) -> Any:
        if isinstance(result, list):
            return [self._apply(item, scope) for item in result]
        if not isinstance(result, Replacement):
            return result
        inputs = self._apply(result.inputs, scope)
        owned = [item for item in result.weights if isinstance(item, Owned)]
        for item in owned:
            known = self._owners.get(item.key)
            if known is not None:
                if _meaning(known) != _meaning(result.layer):
                    raise LoweringError(
                        f"{scope.name or 'model'}: the variable {item.variable.name!r} is used in two ways; "
                        "give each use a variable of its own"
                    )
                return known(inputs)
        made = result.layer
        rename(made, self._unique(scope.of(made.name)))
        outputs = made(inputs)
        if result.weights:
            made.set_weights([item.numpy() if isinstance(item, Owned) else item for item in result.weights])
        for item in owned:
            made.trainable = item.trainable
            self._owners[item.key] = made
            self._taken |= {id(variable) for variable in item.variables}
        return outputs

    def _inputs(self, given: Any, name_of: Callable[[Any], str]) -> Any:
        """Inputs of the flat graph in the structure of tensors or specs, of their sizes or of those that were given."""
        specs = tf.nest.flatten(given)
        sizes = self._sizes or [spec.shape[1:] for spec in specs]
        return tf.nest.pack_sequence_as(given, [
            _fresh_input(spec, name_of(spec), size) for spec, size in zip(specs, sizes, strict=True)
        ])

    # --- names ------------------------------------------------------------------------------------------------

    def _name(self, layer: Any, scope: Scope) -> str:
        """A layer's own name at the top; inside a composite `<composite>_<its name>`, which no process counts up."""
        return layer.name if not scope.depth else self._unique(scope.of(_without_count(layer)))

    def _label(self, layer: Any, scope: Scope) -> str:
        if id(layer) not in self._labels:
            name = layer.name if not scope.depth else scope.of(_without_count(layer))
            self._labels[id(layer)] = _unused(name, set(self._labels.values()))
            self._originals.append(layer)
        return self._labels[id(layer)]

    def _unique(self, name: str) -> str:
        name = _unused(name, self._names)
        self._names.add(name)
        return name


def _as_tensor(item: Any) -> Any:
    return item.tensor() if isinstance(item, Fixed) else item


def _unused(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3` ... when taken: in order of computation, so the same in every build."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _without_count(layer: Any) -> str:
    """A name that Keras made up ("conv2d_17") without the number that depends on what else the process built."""
    kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(layer).__name__)).lower()
    return kind if re.fullmatch(rf"{re.escape(kind)}(_\d+)?", layer.name) else str(layer.name)


def _fresh_input(tensor: Any, name: str, size: Sequence[int | None]) -> Any:
    dtype = tf.float32 if tensor.dtype.is_floating else tensor.dtype
    return layers.Input(size, batch_size=tensor.shape[0], dtype=dtype, name=name)


def _meaning(layer: Any) -> tuple[type, dict[str, Any]]:
    return type(layer), {**layer.get_config(), "name": "", "trainable": True}
