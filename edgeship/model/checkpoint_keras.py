"""Weights that tf_keras saved: .h5 (a whole model, or its weights by name) and .keras.

Tensors are named "layer/variable", for example "stem_conv/kernel". Keras puts more before it, but what depends on
whether a model was built or loaded before it was saved.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgeship.core.errors import ModelError
from edgeship.model.checkpoint_tensors import KERAS, Checkpoint
from edgeship.model.hdf5_file import plain_copy
from edgeship.model.keras_code import FOR_WEIGHTS
from edgeship.model.keras_file import load_keras_model


def read_h5(path: Path) -> Checkpoint:
    """Weights by name from the file of `model.save("x.h5")` or `model.save_weights("x.h5")`; no layer is built.

    Raises:
        ModelError: damaged, a file without names (Keras' newer .weights.h5), or data that lies elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-weights-") as folder:
        copy = Path(folder) / "numbers.h5"
        plain_copy(path, copy, where=path)
        try:
            with h5py.File(copy, "r") as file:
                group = file.get("model_weights", file)
                if "layer_names" not in group.attrs:
                    raise ModelError(
                        f"{path}: its weights have no names (the newer .weights.h5 form); save the whole model as "
                        ".keras, or its weights under a name that ends in .h5 and not in .weights.h5"
                    )
                return Checkpoint(layout=KERAS, tensors=_datasets(path, group), layers=_saved_layers(file))
        # A configuration of another form than Keras'.
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path}: not an .h5 file of tf_keras ({error}); save it again") from error


def read_keras(path: Path) -> Checkpoint:
    """Weights by name from a .keras file; code inside it is refused. Raises ModelError."""
    # The file numbers its variables; what they are called, only the layers know.
    model = load_keras_model(path, remedies=FOR_WEIGHTS)
    return Checkpoint(
        layout=KERAS,
        tensors=_by_name(path, ((weight.name, weight.numpy()) for weight in model.weights)),
        layers={layer.name: layer.get_config() for layer in model.layers},
    )


def keras_name(weight: str) -> str:
    """ "stage1_unit1/stage1_unit1_conv1/kernel:0" -> "stage1_unit1_conv1/kernel"."""
    return "/".join(weight.removesuffix(":0").split("/")[-2:])


def _by_name(path: Path, weights: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for name, array in weights:
        if keras_name(name) in tensors:
            raise ModelError(f"{path}: two weights are called {keras_name(name)}; it is no edgeship network")
        tensors[keras_name(name)] = array
    return tensors


def _datasets(path: Path, group: Any) -> dict[str, np.ndarray]:
    """Every dataset."""
    found: dict[str, Any] = {}
    group.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return _by_name(path, ((name, dataset[()]) for name, dataset in found.items()))


def _saved_layers(file: Any) -> dict[str, dict[str, Any]] | None:
    if "model_config" not in file.attrs:
        return None
    document = json.loads(file.attrs["model_config"])
    layers = {layer["config"]["name"]: layer["config"] for layer in document["config"]["layers"]}
    if not all(isinstance(config, dict) for config in layers.values()):
        raise ValueError("the configuration of a layer is no object")
    return layers
