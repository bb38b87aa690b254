"""The float model a configuration asks for: the home model, a user's factory, or a user's .keras file."""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import edgeship.model.flat_layers
import edgeship.model.layers  # noqa: F401 - both register our layers for loading
from edgeship.artifact import Preprocessing
from edgeship.config import ModelConfig
from edgeship.data import Images, preprocess
from edgeship.errors import ModelError
from edgeship.model.distribute import LOST
from edgeship.model.resnet import build_resnet
from edgeship.model.weights import load_weights

# float32 softmax over up to a few thousand classes sums to 1 within a few units in the last place per class.
PROBABILITY_TOLERANCE = 1e-3
PROBE_IMAGES = 8
# "keras_version" and a date; of a file that claims more only this much is read.
LARGEST_METADATA_BYTES = 65_536


def build_model(config: ModelConfig, *, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """The untrained (or, with `model.path` or `model.weights`, trained) float model.

    Raises:
        ModelError: no such factory or file, not a Keras-2 model, not built, not the input and output it must have,
            or weights that do not fit.
    """
    import_custom_objects(config.custom_objects)
    if config.path:
        model = load_model(Path(config.path))
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


def import_custom_objects(modules: tuple[str, ...]) -> None:
    """Import the modules that register the user's own layers."""
    for module in modules:
        _import(module, key="model.custom_objects")


def load_model(path: Path) -> tf_keras.Model:
    """Load a .keras file of Keras 2; code inside it (Lambda layers) is not run. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"model.path: {path}: there is no such file")
    version = _keras_version(path)
    if version is not None and not version.startswith("2."):
        raise ModelError(
            f"{path}: saved by Keras {version}, expected Keras 2; build the network with tf_keras, "
            "set its weights there (model.set_weights takes the arrays in the same order) and save it again"
        )
    try:
        return tf_keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"{path}: not a .keras file this version can load ({in_one_line(error)}); it must be saved by "
            "tf_keras (Keras 2), with its custom layers registered and their modules in model.custom_objects"
        ) from error


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
    if outputs.min() < 0 or np.any(np.abs(sums - 1) > PROBABILITY_TOLERANCE):
        raise ModelError(
            f"{model.name}: expected probabilities (at least 0, summing to 1), found outputs from "
            f"{outputs.min():.3g} to {outputs.max():.3g} summing to {sums[0]:.3g}: are these logits? "
            'end the model with a softmax, for example Dense(classes, activation="softmax")'
        )


def probe(model: tf_keras.Model, images: Images, *, spec: Preprocessing) -> np.ndarray:
    """The outputs on a few images, float32 (n, classes)."""
    outputs: np.ndarray = model.predict_on_batch(preprocess(images.images[:PROBE_IMAGES], spec))
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
    # Names that Keras makes up must not depend on what else this process has built.
    tf_keras.backend.reset_uids()
    policy = tf_keras.mixed_precision.global_policy()
    if not callable(function):
        raise ModelError(
            f"model.factory: expected \"package.module:function\", found {name!r}; {module_name} has no function "
            f"{function_name!r}"
        )
    try:
        model = function(**arguments)
    except LOST:
        raise  # of another worker, not of the factory
    except Exception as error:
        raise ModelError(
            f"model.factory: {name}(input_shape={arguments['input_shape']}, classes={arguments['classes']}) failed: "
            f"{in_one_line(error)}"
        ) from error
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)  # a policy that is left set would reach layers of ours
    if not isinstance(model, tf_keras.Model):
        kind = type(model)
        third = " (Keras 3): import tf_keras in its place" if kind.__module__.split(".")[0] == "keras" else ""
        raise ModelError(
            f"model.factory: {name} returned {kind.__module__}.{kind.__name__}{third}, expected a "
            "tf_keras.Model (Keras 2)"
        )
    return model


def _keras_version(path: Path) -> str | None:
    """The Keras version a .keras file says it was saved by; None where it says nothing (an .h5 file, no zip)."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as stream:
            metadata = json.loads(stream.read(LARGEST_METADATA_BYTES))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, NotImplementedError):
        return None
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else None


def _functional(model: tf_keras.Model) -> tf_keras.Model:
    """A Sequential or Functional model as it is; a subclassed one as the single layer of a functional model."""
    if getattr(model, "_is_graph_network", False):
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
    except ImportError as error:
        raise ModelError(
            f"{key}: the module {module!r} could not be imported ({error}); put it beside the configuration "
            "file or install it"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{key}: the module {module!r} could not be imported, it fails with {in_one_line(error)}; mend it"
        ) from error


def _check_shapes(model: tf_keras.Model, *, input_shape: tuple[int, int, int], classes: int) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{model.name}: expected one input and one output, found {len(model.inputs)} and {len(model.outputs)}"
        )
    found_in, found_out = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    if found_in != input_shape:
        raise ModelError(
            f"{model.name}: expected the input shape {input_shape} (data.image_size, data.channels), "
            f"found {found_in}"
        )
    if found_out != (classes,):
        raise ModelError(f"{model.name}: expected {classes} outputs (the data's labels), found shape {found_out}")


def in_one_line(error: BaseException) -> str:
    """A foreign error's kind and the line of its message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Keras says first where it happened, and then what.
    shown = lines[:2] if lines and lines[0].startswith("Exception encountered when calling layer") else lines[:1]
    return f"{type(error).__name__}: {' '.join(shown)}"
