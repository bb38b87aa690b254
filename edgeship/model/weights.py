"""Pretrained weights into the home model: every tensor by name, or none at all.

torchvision's ResNet-34 and timm's resnet34 share their names (torchvision/models/resnet.py, timm/models/resnet.py);
timm's seresnet34 adds `se.fc1` and `se.fc2`, convolutions of 1x1 where we have dense layers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.errors import ModelError
from edgeship.core.progress import fact
from edgeship.core.text import some
from edgeship.model.checkpoint import read_checkpoint
from edgeship.model.checkpoint_keras import keras_name
from edgeship.model.checkpoint_tensors import TORCH, Checkpoint
from edgeship.model.resnet import OUTPUT_NAME

# Ours -> torch's.
TORCH_LAYERS = {"stem_conv": "conv1", "stem_bn": "bn1", OUTPUT_NAME: "fc"}
TORCH_PARTS = {
    "conv1": "conv1", "bn1": "bn1", "conv2": "conv2", "bn2": "bn2",
    "skip_conv": "downsample.0", "skip_bn": "downsample.1", "se_reduce": "se.fc1", "se_expand": "se.fc2",
}
TORCH_VARIABLES = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
UNIT = re.compile(r"stage(\d+)_unit(\d+)_(\w+)")
# What torch.nn.DataParallel and torch.compile put before every name.
TORCH_PREFIXES = ("module.", "_orig_mod.")
# Batch norm's count of steps: no part of the function.
UNUSED_SUFFIX = ".num_batches_tracked"
# What of a layer's configuration changes the function, but no shape.
VITAL_KEYS = ("padding", "strides", "activation", "batch_norm_epsilon", "epsilon")
# What layers had before they had the key.
OLDER_KEYS = {"padding": "same"}


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """One weight of the model and the tensor it takes."""

    variable: tf.Variable
    shape: tuple[int, ...]  # of the tensor, in the file's layout
    is_head: bool


def load_weights(model: tf_keras.Model, path: Path, *, new_head: bool = False) -> None:
    """Fill a model of `build_resnet` from a checkpoint, in place; where anything does not fit, nothing is changed.

    Args:
        new_head: leave the classifier as it is, whatever the file has for it.

    Raises:
        ModelError: the file cannot be read as weights; tensors missing, left over or of another shape, by name; a
            whole Keras model whose layers compute something else; NaN or infinite values.
    """
    checkpoint = read_checkpoint(path)
    torch = checkpoint.layout == TORCH
    notes = list(checkpoint.notes)
    tensors = dict(checkpoint.tensors)
    if torch:
        tensors = {name: array for name, array in tensors.items() if not name.endswith(UNUSED_SUFFIX)}
        tensors = _without_prefixes(tensors, notes)
    slots = _slots(model, torch=torch)
    if new_head:
        head = [name for name, slot in slots.items() if slot.is_head]
        slots = {name: slot for name, slot in slots.items() if not slot.is_head}
        tensors = {name: array for name, array in tensors.items() if name not in head}
        notes.append(f"the classifier of {model.output_shape[-1]} classes starts anew (model.new_head)")
    _check_fit(path, slots, tensors, classes=model.output_shape[-1])
    _check_layers(path, model, checkpoint, new_head=new_head)
    if rounded := sorted({str(array.dtype) for array in tensors.values()} - {"float32"}):
        notes.append(f"stored as {', '.join(rounded)}, taken as float32")
    values = {name: _value(path, name, tensors[name], slot, torch=torch) for name, slot in slots.items()}
    for name, slot in slots.items():
        slot.variable.assign(values[name])
    fact("; ".join([f"weights: {path.name}: {len(values)} tensors in {checkpoint.layout}'s layout", *notes]))


def torch_name(weight: str) -> str:
    """The name in a torchvision or timm checkpoint of one of our weights, for example `layer1.0.conv1.weight`."""
    layer, variable = keras_name(weight).split("/")
    if unit := UNIT.fullmatch(layer):
        stage, number, part = unit.groups()
        name = f"layer{stage}.{int(number) - 1}.{TORCH_PARTS[part]}"
    else:
        name = TORCH_LAYERS[layer]
    return f"{name}.{TORCH_VARIABLES[variable]}"


def _slots(model: tf_keras.Model, *, torch: bool) -> dict[str, _Slot]:
    slots = {}
    for variable in model.weights:
        name = torch_name(variable.name) if torch else keras_name(variable.name)
        shape = tuple(variable.shape)
        if torch and len(shape) == 4:
            shape = (shape[3], shape[2], shape[0], shape[1])  # HWIO -> OIHW
        elif torch and len(shape) == 2:
            shape = shape[::-1] + ((1, 1) if ".se." in name else ())
        head = keras_name(variable.name).startswith(f"{OUTPUT_NAME}/")
        slots[name] = _Slot(variable=variable, shape=shape, is_head=head)
    return slots


def _value(path: Path, name: str, tensor: np.ndarray, slot: _Slot, *, torch: bool) -> np.ndarray:
    """The tensor in our layout, as float32."""
    if not np.issubdtype(tensor.dtype, np.floating):
        raise ModelError(f"{path}: {name}: expected floating-point numbers, found {tensor.dtype}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        value = tensor.astype(np.float32)
    if not np.all(np.isfinite(value)):
        raise ModelError(f"{path}: {name} has NaN or infinite values (as float32); take another checkpoint")
    if torch and len(slot.variable.shape) == 4:
        return value.transpose(2, 3, 1, 0)
    if torch and len(slot.variable.shape) == 2:
        return value.reshape(value.shape[:2]).T
    return value


def _without_prefixes(tensors: dict[str, np.ndarray], notes: list[str]) -> dict[str, np.ndarray]:
    for prefix in TORCH_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            notes.append(f"{prefix!r} taken off every name")
            tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _check_fit(path: Path, slots: dict[str, _Slot], tensors: dict[str, np.ndarray], *, classes: int) -> None:
    missing = [f"{name} {slot.shape}" for name, slot in slots.items() if name not in tensors]
    left = [f"{name} {array.shape}" for name, array in tensors.items() if name not in slots]
    wrong = [name for name, slot in slots.items() if name in tensors and tensors[name].shape != slot.shape]
    if not (missing or left or wrong):
        return
    if not missing and not left and all(slots[name].is_head for name in wrong):
        found = tensors[wrong[0]].shape
        raise ModelError(
            f"{path}: its classifier ({wrong[0]} {found}) does not have the model's {classes} classes (model.classes, "
            "or else as many as the data has); give the data the file's classes, or set model.new_head = true to "
            "train a new classifier"
        )
    shapes = [f"{name}: expected {slots[name].shape}, found {tensors[name].shape}" for name in wrong]
    raise ModelError(
        f"{path}: not a checkpoint of this network; nothing was loaded. "
        f"Missing: {some(missing)}. Left over: {some(left)}. Wrong shape: {some(shapes)}. "
        "model.stage_sizes, width, se_ratio and se_divisor must be the checkpoint's, and its blocks those of "
        "torchvision's ResNet-18 or 34 (bottlenecks and the stems of resnet34d are others)"
    )


def _check_layers(path: Path, model: tf_keras.Model, checkpoint: Checkpoint, *, new_head: bool) -> None:
    """Hold the layers of a whole Keras model against ours, where they differ without a tensor that shows it."""
    if checkpoint.layers is None:
        return
    differences = []
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.InputLayer) or (new_head and layer.name == OUTPUT_NAME):
            continue
        if layer.name not in checkpoint.layers:
            differences.append(f"{layer.name}: not in the file")
            continue
        ours, theirs = layer.get_config(), checkpoint.layers[layer.name]
        differences += [
            f"{layer.name}.{key}: expected {_plain(ours[key])}, found {_plain(found)}"
            for key in VITAL_KEYS
            if key in ours and _plain(ours[key]) != _plain(found := theirs.get(key, OLDER_KEYS.get(key)))
        ]
    if differences:
        raise ModelError(
            f"{path}: a network of the same shapes that computes something else; nothing was loaded: "
            f"{some(differences)}; set model.padding and model.batch_norm_epsilon to the file's"
        )


def _plain(value: Any) -> Any:
    """As JSON gives it back, which has lists where Python has tuples."""
    return json.loads(json.dumps(value))
