"""SavedModel folders that Keras 2 wrote: layers and numbers are read as data, the graph in the folder never runs.

Keras keeps the configuration of the model beside the graph, in `keras_metadata.pb` (before TensorFlow 2.5 in
`saved_model.pb`), and the numbers in a checkpoint. The model is built anew from these two; the operations of the graph,
which may read files or call Python, and the functions of the layers are not looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from edgeship.core import child
from edgeship.core.errors import EdgeshipError, ModelError, StorageError, in_one_line
from edgeship.core.signals import signal_name
from edgeship.model import checkpoint_copy, keras2
from edgeship.model.keras_code import Remedies, check_config, defined_in
from edgeship.model.keras_file import LARGEST_CONFIG_BYTES, bounded_variables, largest_variables

GRAPH_FILE, METADATA_FILE, NUMBERS = "saved_model.pb", "keras_metadata.pb", Path("variables") / "variables"
TIMEOUT_SECONDS = 1800.0
SAVE_ANEW = 'save the model where it was made with model.save("model.keras"), and give that file'


def is_saved_model(path: Path) -> bool:
    """Return whether a path is the folder of a SavedModel, of Keras or not."""
    return path.is_dir() and (path / GRAPH_FILE).is_file()


def load_saved_model(
    path: Path, *, trust_code: bool = False, modules: tuple[str, ...] = (), remedies: Remedies
) -> tf_keras.Model:
    """Build the Keras 2 model of a SavedModel folder with its weights, uncompiled; nothing in the folder is run.

    Args:
        trust_code: let tf_keras load the folder, with the code of its Lambda layers and its functions.
        modules: modules that the user has named and that are imported; their layers need not be registered.
        remedies: what messages advise.

    Raises:
        ModelError: damaged, or written without Keras' layers (`model.export`, `tf.saved_model.save`, Keras 3); code in
            its layers; a class that is not known; a weight that the folder does not have.
    """
    own = defined_in(modules)
    if trust_code:
        return _trusted(path, own)
    config = _config(path)
    check_config(config, where=str(path), remedies=remedies, own=own)
    with tempfile.TemporaryDirectory(prefix="edgeship-model-") as folder:
        objects, numbers = _numbers(path, Path(folder))
        model = _built(path, config, own, stored_bytes=sum(array.nbytes for array in numbers.values()))
        _assign(path, model, objects, numbers)
    return model


def _config(path: Path) -> dict[str, Any]:
    """Return the configuration of the model, as parsed JSON."""
    text = _metadata(path)
    if text is None:
        raise ModelError(
            f"{path}: a SavedModel that holds a graph and no layers (model.export, tf.saved_model.save or Keras 3 "
            f"wrote it), expected one that tf_keras wrote with model.save; {SAVE_ANEW}"
        )
    if len(text) > LARGEST_CONFIG_BYTES:
        raise ModelError(f"{path}: its layers take {len(text):,} bytes, expected at most {LARGEST_CONFIG_BYTES:,}")
    try:
        metadata = json.loads(text)
        config = metadata["model_config"]
        is_graph = metadata.get("is_graph_network") or config["class_name"] in ("Sequential", "Functional", "Model")
        named = str(config["class_name"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, in_one_line(error)) from error
    if not is_graph:
        raise ModelError(
            f"{path}: holds a model of the class {named!r} with a call() of its own, of which a SavedModel keeps no "
            "layers; build it in a factory (model.factory) and load its weights there"
        )
    return dict(config)


def _metadata(path: Path) -> str | None:
    """Return what Keras says of the outermost model; None where Keras says nothing."""
    # protobuf's messages alone, no code of TensorFlow's
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    try:
        if (path / METADATA_FILE).is_file():
            metadata = saved_metadata_pb2.SavedMetadata()
            metadata.ParseFromString((path / METADATA_FILE).read_bytes())
            return next((str(node.metadata) for node in metadata.nodes if node.node_id == 0), None)
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((path / GRAPH_FILE).read_bytes())
        nodes = saved.meta_graphs[0].object_graph_def.nodes
        return str(nodes[0].user_object.metadata) or None if nodes else None
    except OSError as error:
        raise ModelError(f"{path}: could not be read ({error.strerror or error})") from error
    # protobuf's error is of a class that has no types, and a message without a graph is an IndexError.
    except Exception as error:
        raise _damaged(path, in_one_line(error)) from error


def _numbers(path: Path, folder: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the saved objects and the numbers of their variables, as a child process reads them."""
    command = child.script_command(str(checkpoint_copy.__file__), str(path / NUMBERS), str(folder))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_SECONDS, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        )
    except subprocess.TimeoutExpired as error:
        raise _damaged(path, f"TensorFlow was not done with its variables after {TIMEOUT_SECONDS:.0f} s") from error
    reason = done.stdout.strip()[:300]
    if done.returncode == checkpoint_copy.NOT_WRITTEN:
        raise StorageError(f"{folder}: the copy of {path} could not be written ({reason}); free some space")
    if done.returncode == checkpoint_copy.REFUSED:
        raise _damaged(path, f"its variables: {reason}")
    if done.returncode < 0:
        raise _damaged(path, f"TensorFlow crashed on its variables with {signal_name(-done.returncode)}")
    if done.returncode:
        raise _damaged(path, f"its variables: {done.stderr.strip().rpartition(chr(10))[2][:300]}")
    objects = json.loads((folder / checkpoint_copy.OBJECTS_FILE).read_text(encoding="utf-8"))
    with np.load(folder / checkpoint_copy.NUMBERS_FILE, allow_pickle=False) as arrays:
        return objects, {name: arrays[name] for name in arrays.files}


def _built(path: Path, config: dict[str, Any], own: dict[str, Any], *, stored_bytes: int) -> tf_keras.Model:
    try:
        with bounded_variables(path, largest_variables(stored_bytes)):
            model = keras2.model_of_config(config, own)
    except EdgeshipError:
        raise
    # Deserializing what is no model of Keras 2 can raise nearly anything.
    except Exception as error:
        raise _damaged(path, in_one_line(error)) from error
    if not isinstance(model, tf_keras.Model):
        raise _damaged(path, f"its outermost layer is a {type(model).__name__} and no model")
    return model


def _assign(
    path: Path, model: tf_keras.Model, objects: list[dict[str, Any]], numbers: dict[str, np.ndarray]
) -> None:
    """Give each variable of the model the numbers that the folder has at the same place. Raises ModelError."""
    found: dict[int, np.ndarray] = {}
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Any, int]] = [(model, 0)]
    while waiting:
        item, place = waiting.pop()
        if (id(item), place) in seen or not 0 <= place < len(objects):
            continue
        seen.add((id(item), place))
        if objects[place]["entry"] in numbers:
            found[id(item)] = numbers[objects[place]["entry"]]
        children = keras2.tracked_children(item)
        waiting += [(children[name], at) for name, at in objects[place]["children"].items() if name in children]
    for weight in model.weights:
        array = found.get(id(weight))
        if array is None or array.shape != tuple(weight.shape):
            stored = "none" if array is None else f"shape {array.shape}"
            raise ModelError(
                f"{path}: {weight.name}: expected numbers of shape {tuple(weight.shape)} in {NUMBERS}, found {stored}; "
                f"the folder is not whole, {SAVE_ANEW}"
            )
        weight.assign(array)


def _trusted(path: Path, own: dict[str, Any]) -> tf_keras.Model:
    try:
        model = tf_keras.models.load_model(path, compile=False, custom_objects=own)
    # The folder's own code and graph may raise anything.
    except Exception as error:
        raise _damaged(path, in_one_line(error)) from error
    if not isinstance(model, tf_keras.Model):
        raise ModelError(
            f"{path}: a SavedModel that holds a graph and no layers, expected one that tf_keras wrote with model.save; "
            f"{SAVE_ANEW}"
        )
    return model


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path}: not a SavedModel of Keras 2 that this version can load ({reason}); {SAVE_ANEW}")
