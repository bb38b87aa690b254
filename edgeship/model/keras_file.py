"""Saved Keras models (.keras, .h5), opened as files from outside: read as data, checked, and only then built.

What a file is, its first bytes say, never its name: tf_keras itself goes by the name, and reads an HDF5 file called
.keras by its older loader, which runs the code in it. What has been checked is what is built: a fresh file is written
from the checked configuration and a copy of the numbers, and tf_keras gets to see nothing else.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import tf_keras

import edgeship.model.flat_layers
import edgeship.model.layers  # noqa: F401 - both register our layers for loading
from edgeship.core.errors import EdgeshipError, ModelError, in_one_line
from edgeship.model.hdf5_file import MAGIC as HDF5_MAGIC
from edgeship.model.hdf5_file import plain_copy
from edgeship.model.keras3.recognize import require_tensorflow_backend
from edgeship.model.keras_code import FOR_MODELS, FOR_PYTHON, Remedies, check_config, defined_in, without_compile_config

ZIP_MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# A configuration of some hundred layers has 0.3 MB; constants in it (position tables) take more.
LARGEST_CONFIG_BYTES = 32 * 2**20
# A float16 weight in the file becomes a float32 variable; beside them stand seeds and the states of recurrent layers.
VARIABLES_PER_STORED_BYTE, SPARE_VARIABLES_BYTES = 2, 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """A saved model as data: its configuration, who saved it, and an HDF5 file of plain numbers."""

    config: Any
    keras_version: str | None
    numbers: Path
    is_zip: bool

    @property
    def is_keras3(self) -> bool:
        """Whether Keras 3 saved it: by what the file says, or else by a form that Keras 2 never writes."""
        if self.keras_version is not None:
            return self.keras_version.split(".")[0] == "3"
        return '"DTypePolicy"' in json.dumps(self.config)


def read_model_config(path: Path) -> dict[str, Any]:
    """The configuration of a saved Keras model, as parsed JSON; nothing is built from it.

    Raises:
        ModelError: no file, neither .keras nor HDF5, damaged, weights without layers, saved by another Keras version.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-model-") as folder:
        contents = _contents(path, Path(folder))
        _require_keras2(path, contents)
        config: dict[str, Any] = contents.config
        return config


def load_keras_model(
    path: Path, *, trust_code: bool = False, modules: tuple[str, ...] = (), remedies: Remedies = FOR_MODELS
) -> tf_keras.Model:
    """Build a saved Keras model with its weights, uncompiled; code in the file is not run.

    One that Keras 3 saved (with any backend) is translated to Keras 2; in bundles and as `model.weights` it is refused.

    Args:
        trust_code: build whatever the file asks for, its own code included.
        modules: modules that the user has named and that are imported; their layers need not be registered.
        remedies: what messages advise.

    Raises:
        ModelError: as `read_model_config`; the file carries or names code; a class that is not known; more weights
            declared than stored; tf_keras cannot build it.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-model-") as name:
        folder = Path(name)
        if trust_code and not _contents(path, folder).is_keras3:
            return _build(_link(path, folder), path, defined_in(modules), contextlib.nullcontext(), trust_code=True)
        contents = _contents(path, folder)
        config = without_compile_config(contents.config)
        own = defined_in(modules)
        if contents.is_keras3 and remedies in (FOR_MODELS, FOR_PYTHON):
            return _build_keras3(contents, config, path, folder, own, trust_code=trust_code, remedies=remedies)
        _require_keras2(path, contents)
        check_config(config, where=str(path), remedies=remedies, own=own)
        checked = _checked_file(contents, config, folder)
        limit = largest_variables(contents.numbers.stat().st_size)
        return _build(checked, path, own, bounded_variables(path, limit), trust_code=False)


def _contents(path: Path, folder: Path) -> _Contents:
    """Read a file as data; `folder` is a place for the copy of its numbers."""
    magic = _first_bytes(path)
    if magic.startswith(ZIP_MAGIC):
        return _zip_contents(path, folder)
    if magic == HDF5_MAGIC:
        return _hdf5_contents(path, folder)
    raise ModelError(
        f"{path}: not a model file this version can load (it starts neither as a .keras nor as an .h5 file); it must "
        "be saved by tf_keras (Keras 2)"
    )


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(
            f"{path}: a folder, expected a .keras or .h5 file (or, as the model to quantize, the folder of a "
            "SavedModel, which has saved_model.pb in it)"
        )
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    with path.open("rb") as stream:
        return stream.read(len(HDF5_MAGIC))


def _zip_contents(path: Path, folder: Path) -> _Contents:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(path, archive)
            metadata = _json(archive.read(METADATA)) if METADATA in entries else {}
            version = metadata.get("keras_version") if isinstance(metadata, dict) else None
            version = version if isinstance(version, str) else None
            config = _json(archive.read(CONFIG))
            weights = archive.read(WEIGHTS)
    except EdgeshipError:
        raise
    # Damaged bytes make zipfile raise nearly anything; a KeyError is an entry that is not there.
    except Exception as error:
        raise _damaged(path, error) from error
    stored, numbers = folder / "stored.h5", folder / "numbers.h5"
    stored.write_bytes(weights)
    plain_copy(stored, numbers, where=path)
    stored.unlink()
    return _Contents(config=config, keras_version=version, numbers=numbers, is_zip=True)


def _entries(path: Path, archive: zipfile.ZipFile) -> set[str]:
    """The names in a .keras file, each there once and as Keras writes it, so that none grows when it is read."""
    found = archive.infolist()
    names = [entry.filename for entry in found]
    if others := sorted(set(names) - {CONFIG, METADATA, WEIGHTS}):
        raise ModelError(
            f"{path}: expected {CONFIG}, {METADATA} and {WEIGHTS}, found {others[0]!r} too; layers that keep files of "
            "their own in the model are not supported"
        )
    for entry in found:
        if names.count(entry.filename) > 1:
            raise ModelError(f"{path}: {entry.filename} is in it more than once; save the model again")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"{path}: {entry.filename} is compressed, which Keras 2 never does; save the model again")
        if entry.filename != WEIGHTS and entry.file_size > LARGEST_CONFIG_BYTES:
            raise ModelError(
                f"{path}: {entry.filename}: expected at most {LARGEST_CONFIG_BYTES:,} bytes, found {entry.file_size:,}"
            )
    return set(names)


def _hdf5_contents(path: Path, folder: Path) -> _Contents:
    numbers = folder / "numbers.h5"
    plain_copy(path, numbers, where=path)
    with h5py.File(numbers, "r") as file:
        version, text = file.attrs.get("keras_version"), file.attrs.get("model_config")
    version = version.decode(errors="replace") if isinstance(version, bytes) else version
    version = version if isinstance(version, str) else None
    if text is None:
        raise ModelError(
            f"{path}: it has weights and no layers (save_weights was used); build the network in model.factory and "
            "load them there, or save the whole model with model.save"
        )
    if not isinstance(text, str | bytes) or len(text) > LARGEST_CONFIG_BYTES:
        raise ModelError(f"{path}: model_config: expected text of at most {LARGEST_CONFIG_BYTES:,} bytes; save it anew")
    try:
        config = _json(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return _Contents(config=config, keras_version=version, numbers=numbers, is_zip=False)


def _json(content: str | bytes) -> Any:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError(f"its configuration is a {type(document).__name__} and no object")
    return document


def _require_keras2(path: Path, contents: _Contents) -> None:
    version = contents.keras_version or ("3" if contents.is_keras3 else "2")
    if version.split(".")[0] not in ("1", "2"):
        raise ModelError(
            f"{path}: saved by Keras {version[:20]}, expected Keras 2; build the network with tf_keras, "
            "set its weights there (model.set_weights takes the arrays in the same order) and save it again"
        )


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path}: not a model file this version can load ({in_one_line(error)}); it must be saved by tf_keras"
    )


def _checked_file(contents: _Contents, config: Any, folder: Path) -> Path:
    """A file of the checked configuration and the copied numbers, in the form of the original."""
    text = json.dumps(config)
    if not contents.is_zip:
        with h5py.File(contents.numbers, "r+") as file:
            file.attrs["model_config"] = text.encode()
            file.attrs.pop("training_config", None)
        return contents.numbers
    checked = folder / "checked.keras"
    with zipfile.ZipFile(checked, "w") as archive:
        archive.writestr(METADATA, json.dumps({"keras_version": contents.keras_version or "2"}))
        archive.writestr(CONFIG, text)
        archive.write(contents.numbers, WEIGHTS)
    return checked


def _build_keras3(
    contents: _Contents, config: Any, path: Path, folder: Path, own: dict[str, Any], *, trust_code: bool,
    remedies: Remedies,
) -> tf_keras.Model:
    require_tensorflow_backend()
    from edgeship.model.keras3.file import check_keras3_config, load_keras3

    if trust_code:
        return load_keras3(_link(path, folder), path, own, limit_bytes=None, trust_code=True)
    check_keras3_config(config, where=str(path), own=own, remedies=remedies)
    limit = largest_variables(contents.numbers.stat().st_size)
    return load_keras3(_checked_file(contents, config, folder), path, own, limit_bytes=limit, trust_code=False)


def _link(path: Path, folder: Path) -> Path:
    """The file under the name that tf_keras expects of its content."""
    magic = _first_bytes(path)
    link = folder / ("trusted.keras" if magic.startswith(ZIP_MAGIC) else "trusted.h5")
    link.symlink_to(path.resolve())
    return link


def largest_variables(stored_bytes: int) -> int:
    """Return how many bytes of variables a file with so many bytes of numbers may declare."""
    return stored_bytes * VARIABLES_PER_STORED_BYTE + SPARE_VARIABLES_BYTES


@contextlib.contextmanager
def bounded_variables(path: Path, limit_bytes: int) -> Iterator[None]:
    """Refuse a model whose layers declare far more than the file holds, before the memory is taken."""
    taken = 0

    def create(make: Any, **arguments: Any) -> Any:
        nonlocal taken
        shape = tf.TensorShape(arguments.get("shape"))
        if shape.is_fully_defined():
            size = tf.as_dtype(arguments.get("dtype") or tf.float32).size
            taken += int(np.prod([1, *map(int, shape)], dtype=object)) * size
        if taken > limit_bytes:
            raise ModelError(
                f"{path}: its layers have {taken:,} bytes of weights or more, the file holds no more than "
                f"{limit_bytes:,}; it is damaged, save it again"
            )
        return make(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _build(checked: Path, path: Path, own: dict[str, Any], scope: Any, *, trust_code: bool) -> tf_keras.Model:
    try:
        with scope:
            return tf_keras.models.load_model(checked, compile=False, safe_mode=not trust_code, custom_objects=own)
    except EdgeshipError:
        raise
    # Deserializing what is no model of Keras 2 can raise nearly anything.
    except Exception as error:
        raise ModelError(
            f"{path}: not a model file this version can load ({in_one_line(error)}); it must be saved by "
            "tf_keras (Keras 2), with its custom layers registered and their modules in model.custom_objects"
        ) from error
