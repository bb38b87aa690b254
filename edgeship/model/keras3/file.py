"""Saved models of Keras 3: what their configurations may name, and their building and translation."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tf_keras
from keras.src.ops import einops, image, linalg, math, nn, numpy

from edgeship.core.errors import EdgeshipError, ModelError, in_one_line
from edgeship.model.keras3.inside import bounded_variables
from edgeship.model.keras3.translate import translate
from edgeship.model.keras_code import DATA_FORMS, FOR_MODELS, MODELS, READING_LAYERS, Remedies, Vocabulary, check_config

# Modules of operations that only compute; of `core`, which has loops and conditions over functions, these alone.
OPERATIONS = (numpy, nn, math, linalg, image, einops)
CORE_OPERATIONS = ("Cast", "ConvertToTensor", "Shape", "Slice", "StopGradient", "Unstack")
OF_FUNCTIONS = ("Map", "Vectorize")
CODE_LAYERS = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
IN_KERAS3 = {"@tf_keras.utils.": "@keras.saving.", "tf_keras.models.": "keras.models."}


def check_keras3_config(
    config: Any, *, where: str, own: Mapping[str, Any], remedies: Remedies = FOR_MODELS
) -> None:
    """Refuse a configuration that carries or names code. Raises ModelError.

    Args:
        config: the parsed JSON of a saved model.
        where: the file, for messages.
        own: classes and functions of the user's, by name.
        remedies: what messages advise, in the words of Keras 2.
    """
    check_config(config, where=where, remedies=_in_keras3(remedies), own=own, words=KERAS3)


def load_keras3(
    checked: Path, path: Path, own: dict[str, Any], *, limit_bytes: int | None, trust_code: bool
) -> tf_keras.Model:
    """Build a saved model of Keras 3, and translate it to Keras 2.

    Args:
        checked: the file that is read.
        path: the user's file, for messages.
        own: classes and functions of the user's, by name.
        limit_bytes: of the variables that its layers may declare.

    Raises:
        ModelError: Keras cannot build it, or it declares more.
        LoweringError: it cannot be translated.
    """
    try:
        with contextlib.nullcontext() if limit_bytes is None else bounded_variables(path, limit_bytes):
            model = keras.saving.load_model(checked, compile=False, safe_mode=not trust_code, custom_objects=own)
    except EdgeshipError:
        raise
    # Deserializing what is no model can raise nearly anything.
    except Exception as error:
        raise ModelError(
            f"{path}: not a model file that Keras {keras.__version__} can load ({in_one_line(error)}); its custom "
            "layers must be registered (@keras.saving.register_keras_serializable), in modules that "
            "model.custom_objects names"
        ) from error
    return translate(model)


def _in_keras3(remedies: Remedies) -> Remedies:
    texts = dataclasses.asdict(remedies)
    for word, other in IN_KERAS3.items():
        texts = {key: text.replace(word, other) for key, text in texts.items()}
    return Remedies(**texts)


def _classes() -> frozenset[str]:
    """Layers, models, operations, initializers, regularizers, constraints and policies without those that hold code."""
    if not _CLASSES:  # filled when it is first asked for, since it takes a moment
        for part, base in (
            (keras.layers, keras.Layer), (keras.initializers, keras.initializers.Initializer),
            (keras.regularizers, keras.regularizers.Regularizer),
            (keras.constraints, keras.constraints.Constraint), *((module, keras.Operation) for module in OPERATIONS),
        ):
            found = {name: item for name, item in vars(part).items() if isinstance(item, type)}
            _CLASSES.update(name for name, item in found.items() if issubclass(item, base))
        _CLASSES.update(MODELS, CORE_OPERATIONS, ("DTypePolicy", "FloatDTypePolicy"))
        _CLASSES.difference_update(CODE_LAYERS, KERAS3.reading_layers, OF_FUNCTIONS)
    return frozenset(_CLASSES)


def _functions() -> frozenset[str]:
    names = (name for name in vars(keras.activations) if not name.startswith("_"))
    return frozenset(names) - {"get", "serialize", "deserialize"}


_CLASSES: set[str] = set()
KERAS3 = Vocabulary(
    registered=keras.saving.get_custom_objects, classes=_classes, functions=_functions,
    data_forms=DATA_FORMS | {"__keras_tensor__", "__slice__"}, code_layers=CODE_LAYERS,
    reading_layers=READING_LAYERS | {"TFSMLayer"},
)
