"""Layers of Keras 3's own -> the layers of Keras 2 that mean the same."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tf_keras

from edgeship.model.keras3.inside import layers_of
from edgeship.model.set_aside import set_aside

OWN_MODULES = "keras.src.layers."
# What a class adds to the meaning of the one that it inherits from.
COMPUTES = frozenset({"call", "build", "__call__", "convolution_op"})
# Layers that compute outside of TensorFlow, or in a graph without layers.
FOREIGN = ("TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")
# Settings that have another name in Keras 2.
RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
# Settings that Keras 2 lacks and that change nothing: because of another setting, or with these values.
WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "Resizing": {"fill_mode": "constant", "fill_value": 0.0, "data_format": "channels_last"},
    "CenterCrop": {"data_format": "channels_last"},
    "ZeroPadding1D": {"data_format": "channels_last"},
    "AdditiveAttention": {"score_mode": "concat"},
    **{name: {"data_format": "channels_last"} for name in (
        "RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation",
        "RandomZoom",
    )},
}
# Settings that only say how Keras 3 computes, or where its random numbers begin.
NEVER_MATTER = ("seed", "use_cudnn", "quantization_config", "lora_rank", "lora_alpha", "flash_attention", "autocast")
FUNCTIONS = ("_initializer", "_regularizer", "_constraint")


def own_class(layer: Any) -> type | None:
    """Return the class of Keras' whose layer this is: its own, or the one it inherits everything that computes from."""
    for kind in type(layer).__mro__:
        if kind.__module__.startswith(OWN_MODULES):
            return None if kind in (keras.Layer, keras.layers.Lambda, keras.layers.Wrapper) else kind
        if COMPUTES & set(vars(kind)):
            return None
    return None


def config_of(layer: Any, kind: type, twin: type) -> dict[str, Any] | None:
    """Return the settings for a layer of Keras 2 that computes what a layer of Keras 3 does; None where none does.

    Args:
        kind: the class of Keras 3's that the layer is of.
        twin: the class of Keras 2's of the same name.

    Returns:
        Without activations, regularizers and constraints; with initializers that cost nothing, since weights follow.
    """
    # The user's own may not be serializable.
    with set_aside(layers_of(layer), lambda key, value: key.endswith(FUNCTIONS)):
        config: dict[str, Any] = kind.get_config(layer)  # type: ignore[attr-defined]
    name, taken = kind.__name__, _parameters(twin)
    known: dict[str, Any] = {}
    for key, value in config.items():
        key = RENAMED.get(name, {}).get(key, key)
        if key in taken:
            known[key] = value
        elif key not in NEVER_MATTER and value not in (None, False) and (
            WITHOUT_EFFECT.get(name, {}).get(key, _NOTHING) != value
        ):
            return None
    known |= {key: "zeros" for key in known if key.endswith("_initializer")}
    return {**known, "dtype": _dtype(layer), "trainable": True}


def twin_class(kind: type) -> type | None:
    """Return the class of Keras 2's that has the name of one of Keras 3's; None where there is none."""
    found = getattr(tf_keras.layers, kind.__name__, None)
    return found if isinstance(found, type) else None


def pairs_of_weights(theirs: Sequence[Any], ours: Sequence[Any]) -> list[tuple[Any, Any]] | None:
    """Return which variable of Keras 3 belongs to which of Keras 2: by name, or else by place; None if neither fits."""
    if len(theirs) != len(ours):
        return None
    names = [variable.name for variable in theirs]
    by_name = {variable.name.rpartition("/")[2].partition(":")[0]: variable for variable in ours}
    if set(names) == set(by_name) and len(by_name) == len(names):
        ours = [by_name[name] for name in names]
    pairs = list(zip(theirs, ours, strict=True))
    return pairs if all(tuple(one.shape) == tuple(other.shape) for one, other in pairs) else None


def _dtype(layer: Any) -> str:
    """Return float32 for every layer that computes in floating point; another tf_keras layer keeps its integers."""
    return "float32" if keras.backend.is_float_dtype(layer.compute_dtype) else layer.compute_dtype


def _parameters(kind: type) -> set[str]:
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not tf_keras.layers.Layer:
            names |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return (names | {"name", "trainable", "dtype", "dynamic"}) - {"self", "args", "kwargs"}


_NOTHING = object()
