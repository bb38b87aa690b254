"""Any built model of Keras 3 -> the same network as a model of Keras 2 (tf_keras), which is lowered as any other.

Layers of Keras' own become the layers of the same class; a layer of the user's becomes a layer that runs the same code
on what stands in the places of its inner layers and variables. Names, structure, weights, and what dropout and batch
norm do in training stay.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.errors import EdgeshipError, LoweringError, in_one_line
from edgeship.model.keras3.inside import build_shapes, graph_of, layers_of, name_of_input, nested_inputs
from edgeship.model.keras3.recognize import require_one_keras, require_tensorflow_backend
from edgeship.model.keras3.translation import Translation, describe
from edgeship.model.noise import noise_for
from edgeship.model.precision import rounding_of

# float32 rounds each result to 2^-24 of it, and Keras 3 orders some sums otherwise (a batch norm in inference is
# `x * a + b` there, with a and b computed first). Roundings of random sign add up as the root of their number: 1e-5 of
# the largest output is what 28,000 operations one after the other may come to.
TOLERANCE = 1e-5


def translate(model: Any) -> tf_keras.Model:
    """Return the network of a built Keras 3 model as a functional model of Keras 2, with weights of its own.

    Args:
        model: of `keras` (Keras 3) on the TensorFlow backend: functional, sequential or subclassed. It stays as
            it is.

    Raises:
        LoweringError: the model is not built; a layer cannot be translated, or mixes both Keras; a variable has no
            place in the translation; the outputs on noise differ by more than 1e-5 of the largest.
        ModelError: Keras 3 computes with another backend.
    """
    require_tensorflow_backend()
    require_one_keras(layers_of(model))
    translation = Translation()
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    try:
        inputs = _inputs_of(model)
        noise = noise_for(inputs)
        expected = _answers(model, noise)  # builds what is not built yet: an activation that is a layer
        outputs = translation.outputs_of(model, inputs)
        translated = tf_keras.Model(inputs, outputs, name=model.name)
    except EdgeshipError:
        raise
    # Code of the user's and of both Keras.
    except Exception as error:
        raise LoweringError(
            f"{describe(model)}: could not be translated from Keras 3 to Keras 2 ({in_one_line(error)}); write what "
            "this is about with layers of Keras, keras.ops or tf functions"
        ) from error
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
    translation.copy_trainable(model)
    translation.require_every_variable(model)
    _check_same(model, translated, noise, expected, in_training=translation.in_training)
    return translated


def _inputs_of(model: Any) -> Any:
    """Return fresh inputs of Keras 2 in the structure in which the model is called."""
    graph = graph_of(model)
    if graph is not None:
        return keras.tree.map_structure(
            lambda tensor: _input(tensor.shape, dtype=tensor.dtype, name=name_of_input(tensor)), nested_inputs(graph)
        )
    shapes = build_shapes(model)
    if not model.built or not shapes:
        raise LoweringError(
            f"{describe(model)}: the model is not built, so its input shapes are not known; start a Sequential with "
            "keras.Input(...), and call any other model once on a batch"
        )
    expected = [
        parameter.name for parameter in inspect.signature(model.call).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.name not in ("training", "mask")
    ]
    if len(expected) > len(shapes):
        raise LoweringError(
            f"{describe(model)}: its call() takes {len(expected)} inputs ({', '.join(expected)}), and Keras keeps the "
            "shape of the first alone; let it take one list or dictionary of tensors, or write a build() that "
            "takes the shape of each"
        )
    inputs = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(
            lambda shape: _input((None, *shape[1:]), dtype="float32", name=None), shape
        )
        for name, shape in shapes.items()
    }
    return next(iter(inputs.values())) if len(inputs) == 1 else inputs


def _input(shape: Any, *, dtype: str, name: str | None) -> Any:
    dtype = "float32" if keras.backend.is_float_dtype(dtype) else dtype
    return tf_keras.Input(batch_shape=tuple(shape), dtype=dtype, name=name)


def _answers(model: Any, noise: Any) -> Any:
    """Return the outputs of a model in inference.

    Some operations on channels-first images have no kernel on a CPU; in a graph TensorFlow turns them to channels-last.
    """
    try:
        return model(noise, training=False)
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
        return tf.function(lambda: model(noise, training=False))()


def _check_same(
    model: Any, translated: tf_keras.Model, noise: Any, outputs: Any, *, in_training: list[Any]
) -> None:
    """Raise LoweringError where the translation computes something else of the same noise.

    Args:
        in_training: layers that are called with `training=True`, which explain a difference.
    """
    tolerance = TOLERANCE + rounding_of(layers_of(model))
    found = tf.nest.flatten(_answers(translated, noise))
    for name, one, other in zip(translated.output_names, tf.nest.flatten(outputs), found, strict=True):
        one, other = (np.asarray(tf.cast(item, tf.float32)) for item in (one, other))
        largest = float(np.nanmax(np.abs(one), initial=0.0))
        if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True):
            if in_training:
                raise LoweringError(
                    f"{describe(in_training[0])}: it is called with training=True, which Keras 3 goes by in model(x) "
                    "and not in model.predict(x), and integer files have inference alone; call it without training=True"
                )
            away = float(np.nanmax(np.abs(one - other))) / largest if one.shape == other.shape and largest else np.nan
            raise LoweringError(
                f"{model.name!r}: the translation from Keras 3 to Keras 2 computes another {name!r} on the same noise "
                f"(up to {away:.1e} of the largest output away, at most {tolerance:.0e} expected); does a layer draw "
                "random numbers in inference, or compute outside of TensorFlow?"
            )
