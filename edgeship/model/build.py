"""The float model a configuration asks for: the home model, a user's factory, or a user's .keras file."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.artifact import Preprocessing
from edgeship.core.config import ModelConfig
from edgeship.core.errors import EdgeshipError, ModelError, in_one_line
from edgeship.data import Images, preprocess
from edgeship.model.distribute import LOST
from edgeship.model.keras2 import is_graph
from edgeship.model.keras3 import as_keras2
from edgeship.model.keras3.recognize import fresh_keras
from edgeship.model.keras_code import FOR_MODELS, Remedies
from edgeship.model.keras_file import load_keras_model
from edgeship.model.predict import predict_batch
from edgeship.model.probabilities import SUM_TOLERANCE
from edgeship.model.resnet import build_resnet
from edgeship.model.saved_model import is_saved_model, load_saved_model
from edgeship.model.weights import load_weights

PROBE_IMAGES = 8
AS_ARRAYS = "data.factory and validate.metric (docs/python.md)"


def build_model(config: ModelConfig, *, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """The untrained (or, with `model.path` or `model.weights`, trained) float model.

    Raises:
        ModelError: no such factory or file, not a Keras model, not built, not the input and output it must have,
            or weights that do not fit.
    """
    import_custom_objects(config.custom_objects)
    if config.path:
        model = load_model(Path(config.path), trust_code=config.trust_code, modules=config.custom_objects)
    elif config.factory:
        model = _call_factory(config.factory, input_shape=input_shape, classes=classes)
    else:
        model = build_resnet(
            input_shape=input_shape, classes=classes, stage_sizes=config.stage_sizes, width=config.width,
            se_ratio=config.se_ratio, se_divisor=config.se_divisor, padding=config.padding,
            batch_norm_momentum=config.batch_norm_momentum, batch_norm_epsilon=config.batch_norm_epsilon,
        )
    model = _functional(model)
    _check_shapes(model, input_shape=input_shape, classes=classes)
    if config.weights:
        load_weights(model, Path(config.weights), new_head=config.new_head)
    return model


def build_for_arrays(config: ModelConfig) -> tf_keras.Model:
    """The user's own model for data that are arrays, of any inputs and outputs; the factory gets no arguments.

    Raises:
        ModelError: neither a factory nor a file is named, or what it brings is no built Keras model.
    """
    import_custom_objects(config.custom_objects)
    if config.path:
        return _functional(load_model(Path(config.path), trust_code=config.trust_code, modules=config.custom_objects))
    if config.factory:
        return _functional(_call_factory(config.factory))
    raise ModelError(
        "model.factory: expected a model of your own, since the home model takes images; set model.factory to "
        '"module:function" or model.path to a file'
    )


def import_custom_objects(modules: tuple[str, ...]) -> None:
    """Import the modules that register the user's own layers."""
    for module in modules:
        _import(module, key="model.custom_objects")


def load_model(
    path: Path, *, trust_code: bool = False, modules: tuple[str, ...] = (), remedies: Remedies = FOR_MODELS
) -> tf_keras.Model:
    """Load a .keras or .h5 file, or a SavedModel folder of Keras 2; code inside is refused, unless it is trusted.

    Args:
        remedies: what messages advise.

    Raises:
        ModelError: as `load_keras_model` and `load_saved_model`.
    """
    load = load_saved_model if is_saved_model(path) else load_keras_model
    return load(path, trust_code=trust_code, modules=modules, remedies=remedies)


def check_weights(model: tf_keras.Model) -> None:
    """Raise ModelError where a weight is NaN or infinite."""
    for weight in model.weights:
        if not np.all(np.isfinite(weight.numpy())):
            raise ModelError(
                f"{weight.name}: the weight has NaN or infinite values; train again with a lower learning rate"
            )


def check_probabilities(model: tf_keras.Model, images: Images, *, spec: Preprocessing) -> None:
    """Raise ModelError where the outputs on a few images are not probabilities."""
    outputs = probe(model, images, spec=spec)
    if not np.all(np.isfinite(outputs)):
        raise ModelError(f"{model.name}: its outputs on real images are NaN or infinite")
    sums = outputs.sum(-1)
    if outputs.min() < 0 or np.any(np.abs(sums - 1) > SUM_TOLERANCE):
        raise ModelError(
            f"{model.name}: expected probabilities (at least 0, summing to 1), found outputs from "
            f"{outputs.min():.3g} to {outputs.max():.3g} summing to {sums[0]:.3g}: are these logits? then end the "
            'model with a softmax, for example Dense(classes, activation="softmax"); any other task takes '
            f"arrays: {AS_ARRAYS}"
        )


def probe(model: tf_keras.Model, images: Images, *, spec: Preprocessing) -> np.ndarray:
    """The outputs on a few images, float32 (n, classes)."""
    outputs: np.ndarray = predict_batch(model, preprocess(images.images[:PROBE_IMAGES], spec))
    return outputs


def weights_sha256(model: tf_keras.Model) -> str:
    """A hash of every weight's name, shape and bytes."""
    digest = hashlib.sha256()
    for weight in model.weights:
        values = weight.numpy()
        digest.update(f"{weight.name} {values.shape} {values.dtype}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _call_factory(name: str, **arguments: Any) -> tf_keras.Model:
    module_name, _, function_name = name.partition(":")
    function = getattr(_import(module_name, key="model.factory"), function_name, None)
    if not callable(function):
        raise ModelError(
            f"model.factory: expected \"package.module:function\", found {name!r}; {module_name} has no function "
            f"{function_name!r}"
        )
    try:
        with fresh_keras():
            model = function(**arguments)
    except (EdgeshipError, *LOST):
        raise  # LOST: another worker, not the factory
    # The user's code, and Keras in it, may raise anything.
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ModelError(
            f"model.factory: {name}({given}) failed: {in_one_line(error)}; correct the factory, or the configuration "
            "that these values come from (data.image_size, data.channels, model.classes)"
        ) from error
    model = as_keras2(model)
    if not isinstance(model, tf_keras.Model):
        kind = type(model)
        raise ModelError(
            f"model.factory: {name} returned {kind.__module__}.{kind.__name__}, expected a tf_keras.Model (Keras 2) "
            "or a keras.Model (Keras 3)"
        )
    return model


def _functional(model: tf_keras.Model) -> tf_keras.Model:
    """A Sequential or Functional model as it is; a subclassed one as the single layer of a functional model."""
    if is_graph(model):
        return model
    specs = model.save_spec() if model.built else None
    if specs is None:
        raise ModelError(
            f"{model.name}: the model is not built, so its input shape is not known; start a Sequential with "
            "layers.Input(input_shape), and call any other model once on a batch of zeros"
        )
    inputs = tf.nest.map_structure(
        lambda spec: tf_keras.layers.Input(spec.shape[1:], dtype=spec.dtype), specs[0][0]
    )
    return tf_keras.Model(inputs, model(inputs), name=model.name)


def _import(module: str, *, key: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{key}: the module {module!r} could not be imported ({error}); put it beside the configuration "
            "file or install it"
        ) from error
    # A module of the user's may raise anything while it is imported, a SyntaxError among it.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{key}: the module {module!r} could not be imported: {in_one_line(error)}; correct it"
        ) from error


def _check_shapes(model: tf_keras.Model, *, input_shape: tuple[int, int, int], classes: int) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{model.name}: expected one input and one output, found {len(model.inputs)} and {len(model.outputs)}; "
            "return the part that has one of each, tf_keras.Model(model.inputs[0], model.outputs[0]), or give arrays: "
            f"{AS_ARRAYS}"
        )
    found_in, found_out = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    # A size that the model leaves open is that of the data.
    if len(found_in) != len(input_shape) or any(
        size not in (None, wanted) for size, wanted in zip(found_in, input_shape, strict=True)
    ):
        raise ModelError(_about_input(model.name, expected=input_shape, found=found_in))
    if found_out != (classes,):
        one_number = ', "binary_accuracy" of one sigmoid' if found_out == (1,) else ""
        raise ModelError(
            f"{model.name}: expected {classes} outputs (the data's labels), found shape {found_out}; end the model "
            f'with layers.Dense({classes}, activation="softmax"), or leave it as it is and give arrays: '
            f"{AS_ARRAYS}{one_number}"
        )


def _about_input(name: str, *, expected: tuple[int, int, int], found: tuple[int | None, ...]) -> str:
    text = f"{name}: expected the input shape {expected} (data.image_size, data.channels), found {found}"
    if len(found) != 3:
        return f"{text}; data.name loads images of height, width and channels; for other data give arrays: {AS_ARRAYS}"
    if found[0] != found[1]:
        return (
            f"{text}; data.image_size is the one side of square pictures; for others give arrays: {AS_ARRAYS}"
        )
    if found[2] not in (1, 3):
        return f"{text}; data.name loads images of 1 or 3 channels; for others give arrays: {AS_ARRAYS}"
    return f"{text}; set data.image_size = {found[0]} and data.channels = {found[2]}"
