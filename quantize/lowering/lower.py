"""Any float Keras model -> the same network as a flat functional graph of layers with one meaning each.

A composite layer is traced through its own `call()`: run on symbolic tensors, its inner layers become nodes of the
graph and its tensor operators become nodes that `operators.py` turns into the layers that mean the same. No layer is
known by name. The result has layers of its own, with the weights copied, in the layout of channels-last images; its
outputs equal the original's bit for bit; the original is left as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.errors import LoweringError
from edgeship.model.keras2 import computes_its_graph, inner_layers, nested_inputs
from edgeship.model.keras3 import as_keras2
from edgeship.model.noise import noise_for
from edgeship.model.precision import rounding_of
from edgeship.quantize.lowering.lowered_graph import LoweredGraph
from edgeship.quantize.lowering.refusals import require_built_keras2, require_no_wrappers
from edgeship.quantize.simplifying.layouts import with_channels_last
from edgeship.quantize.simplifying.precision import float32_policy

# A wrong meaning shows far above this; only a composite compiled by tf.function rounds differently from its parts.
RELATIVE_TOLERANCE = 1e-3


def input_specs(model: Any) -> list[Any]:
    """What a built Keras 2 model reads, one after the other: tensors or specs, with open axes; nothing of all else."""
    if not isinstance(model, tf_keras.Model):
        return []
    if computes_its_graph(model):
        return list(tf.nest.flatten(nested_inputs(model)))
    specs = model.save_spec() if model.built else None
    return [] if specs is None else list(tf.nest.flatten(specs[0][0]))


def leaves_sizes_open(model: Any) -> bool:
    """Whether a model says of some axis other than the batch's not how long it is."""
    return any(None in spec.shape[1:] for spec in input_specs(model))


def lower(model: Any, *, sizes: Sequence[Sequence[int]] | None = None) -> tf_keras.Model:
    """The same network as a flat functional model, with weights of its own.

    Args:
        model: a built Keras model, Sequential, Functional or subclassed, of any composite layers. One of Keras 3 is
            translated to Keras 2 first (`edgeship.model.keras3`).
        sizes: of each input without the batch axis, for a model that leaves some open: files have fixed ones.

    Returns:
        A functional model with the same inputs and outputs (names, shapes, order, structure). Every layer is one of
        Keras' own, one of `edgeship.model.flat_layers`, or, where neither means the same, a single TensorFlow operator
        (TFOpLambda) under a stable name. A layer inside a composite `x` is called `x_<its name>`, an operator
        `x_<what it does>`. Outputs equal the original's bit for bit in inference, where that computes in float32; of
        mixed precisions and others they are what float32 makes of the same weights. Random augmentation is left out.

    Raises:
        LoweringError: a model that is not built, of no Keras or of both, or wrapped by tfmot; a layer that was called
            with `training=True` and computes something else then; a layer whose `call()` cannot be traced or updates a
            variable; a stateful layer; a trainable variable that no layer of the result owns. The message names the
            layer and the operation.
    """
    model = as_keras2(model)
    require_built_keras2(model)
    require_no_wrappers(model)
    graph = LoweredGraph(sizes)
    with float32_policy():
        inputs, outputs = graph.lower(model)
        flat = tf_keras.Model(inputs, outputs, name=model.name)
        if computes_its_graph(model):
            flat.output_names = list(model.output_names)
        graph.check_no_weight_is_lost(model, flat)
        flat = with_channels_last(flat)
    _check_same(model, flat)
    return flat


def _check_same(model: tf_keras.Model, flat: tf_keras.Model) -> None:
    """Run both on noise. Raises LoweringError where the lowered network computes something else."""
    inputs = noise_for(nested_inputs(flat))
    tolerance = RELATIVE_TOLERANCE + rounding_of(inner_layers(model))
    expected, found = (tf.nest.flatten(answers_of(network, inputs)) for network in (model, flat))
    for name, one, other in zip(flat.output_names, expected, found, strict=True):
        one, other = (np.asarray(tf.cast(item, tf.float32)) for item in (one, other))
        largest = float(np.nanmax(np.abs(one), initial=0.0))
        if one.shape != other.shape or not np.allclose(
            one, other, rtol=tolerance, atol=tolerance * largest, equal_nan=True
        ):
            raise LoweringError(
                f"{model.name!r}: the lowered network computes another {name!r} than the model on the same noise; "
                "does a layer draw random numbers in inference, or compute outside of TensorFlow?"
            )


def answers_of(network: tf_keras.Model, inputs: Any) -> Any:
    """What a network answers in inference, channels-first ones on any CPU."""
    try:
        return network(inputs, training=False)
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
        # TensorFlow has channels-first kernels on some CPUs alone; its compiler has them on all.
        return tf.function(network, jit_compile=True)(inputs, training=False)
