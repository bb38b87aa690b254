"""What torch.save wrote (.pth, .pt, .bin), without torch and without running the pickle inside.

A file is a zip of `NAME/data.pkl` and one `NAME/data/KEY` of raw numbers per storage (torch 1.6 and later), or, before
that, five pickles one behind the other with the storages after them (torch/serialization.py: `_save` and
`_legacy_save`). Tensors in the pickle are views of storages: offset, size and strides in elements.
"""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.errors import ModelError
from edgeship.model.checkpoint_pickle import Answers, Ignored, Name, NotDataError, read_pickle
from edgeship.model.checkpoint_tensors import TORCH, Checkpoint, bfloat16_to_float32

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of a file of before torch 1.6
PROTOCOL_VERSION = 1001  # second pickle
ZIP_START = b"PK\x03\x04"
# Storage class -> number type. What is missing has no exact float32 form, or no place among weights.
STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?",
}
# Where training scripts put the weights beside optimizer and arguments; the first that is there is taken.
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")


@dataclass(frozen=True, kw_only=True)
class _Storage:
    kind: str  # a key of STORAGES
    key: str
    elements: int


@dataclass(frozen=True, kw_only=True)
class _View:
    """A tensor, not read yet: where its numbers lie in a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ReadStorage = Callable[[_Storage], bytes]


def read_torch(path: Path) -> Checkpoint:
    """The state dict of a file that torch.save wrote, also one level down in a dict with optimizer state.

    Raises:
        ModelError: damaged, asks for more than data, TorchScript, a whole pickled module, or number types that have
            no exact float32 form; the message says which.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(len(ZIP_START))
        if start == ZIP_START:  # and not zipfile.is_zipfile, which looks for the end that raw numbers may imitate
            with zipfile.ZipFile(path) as archive:
                tree, read_storage = _read_zip(archive)
                return _checkpoint(tree, read_storage)
        return _checkpoint(*_read_pickles(path))
    except NotDataError as error:
        raise ModelError(
            f"{path}: not weights alone: {error}; nothing of it was run. Save the state dict alone: "
            "torch.save(model.state_dict(), file), or as .safetensors"
        ) from error
    # Damaged bytes can make zipfile and the reading of a pickle raise nearly anything.
    except Exception as error:
        raise ModelError(
            f"{path}: not a whole file of torch.save ({type(error).__name__}: {error}); fetch it again"
        ) from error


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, ReadStorage]:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise NotDataError(f"a zip file with {len(pickles)} entries NAME/data.pkl, expected one")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise NotDataError("a TorchScript program, which has code beside its weights")
    if f"{folder}byteorder" in archive.namelist() and _stored(archive, f"{folder}byteorder") != b"little":
        raise NotDataError("its numbers are stored big-endian")
    tree = read_pickle(
        io.BytesIO(_stored(archive, pickles[0])), answers=_ANSWERS, is_value=_is_storage, persistent=_persistent
    )
    return tree, lambda storage: _stored(archive, f"{folder}data/{storage.key}")


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry's bytes. torch stores and never compresses; what would grow on reading is not its own."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise NotDataError(f"its entry {name} is compressed, which torch never does")
    return archive.read(entry)


def _read_pickles(path: Path) -> tuple[Any, ReadStorage]:
    if tarfile.is_tarfile(path):
        raise NotDataError("it has the tar form of before torch 0.4; load it with torch and save it again")
    stream = io.BytesIO(path.read_bytes())
    if read_pickle(stream, answers={}) != MAGIC_NUMBER or read_pickle(stream, answers={}) != PROTOCOL_VERSION:
        raise ValueError("neither a zip file nor torch's magic number")
    read_pickle(stream, answers={})  # the writer's integer sizes; the numbers below are little-endian everywhere
    storages: dict[str, _Storage] = {}

    def persistent(identifier: Any) -> _Storage:
        storage = _persistent(identifier)
        return storages.setdefault(storage.key, storage)

    tree = read_pickle(stream, answers=_ANSWERS, is_value=_is_storage, persistent=persistent)
    contents: dict[str, bytes] = {}
    for key in read_pickle(stream, answers={}):
        elements = int.from_bytes(stream.read(8), "little")
        contents[key] = stream.read(elements * np.dtype(STORAGES[storages[key].kind]).itemsize)
    return tree, lambda storage: contents[storage.key]


def _is_storage(name: Name) -> bool:
    return name.module == "torch" and name.name.endswith("Storage")


def _persistent(identifier: Any) -> _Storage:
    """("storage", type, key, device, elements), and in old files None behind it: a view of another storage."""
    if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise NotDataError("a persistent id that is no storage: a whole module was saved instead of its state dict")
    _, kind, key, _, elements, *view = identifier
    if not isinstance(kind, Name) or kind.name not in STORAGES:
        raise NotDataError(f"numbers stored as {kind}; expected one of {', '.join(STORAGES)}")
    if view not in ([], [None]):
        raise NotDataError(f"the storage {key} is a view of another one")
    return _Storage(kind=kind.name, key=str(key), elements=int(elements))


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    """torch._utils._rebuild_tensor(_v2). What follows the strides (gradient, hooks) is nothing of ours."""
    if not isinstance(storage, _Storage):
        raise NotDataError("a tensor of something that is no storage")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise NotDataError(f"a tensor of size {shape} and strides {strides} at {offset}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    elements = math.prod(shape)
    # The second bound: a stride of 0 repeats numbers, so a small file could ask for any amount of memory.
    if elements and (last >= storage.elements or elements > storage.elements):
        raise NotDataError(f"a tensor of size {shape} reaches beyond its storage of {storage.elements} numbers")
    return _View(storage=storage, offset=offset, shape=tuple(shape), strides=tuple(strides))


_ANSWERS: Answers = {
    "collections.OrderedDict": lambda *pairs: dict(*pairs),
    "torch._utils._rebuild_tensor": _view,
    "torch._utils._rebuild_tensor_v2": _view,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "argparse.Namespace": lambda: Ignored(),  # the arguments of the training script
}


def _checkpoint(tree: Any, read_storage: ReadStorage) -> Checkpoint:
    views, notes = _state_dict(tree)
    contents: dict[str, bytes] = {}  # tensors may share a storage
    tensors = {}
    for name, view in views.items():
        if view.storage.key not in contents:
            contents[view.storage.key] = read_storage(view.storage)
        tensors[name] = _array(view, contents[view.storage.key])
    return Checkpoint(layout=TORCH, tensors=tensors, notes=notes)


def _state_dict(tree: Any) -> tuple[dict[str, _View], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if isinstance(tree, dict) and not any(isinstance(value, _View) for value in tree.values()):
        wrappers = [key for key in WRAPPERS if isinstance(tree.get(key), dict)]
        if wrappers:
            others = f", not {', '.join(map(repr, wrappers[1:]))}" if wrappers[1:] else ""
            notes = (f"the file's {wrappers[0]!r} is taken{others}",)
            tree = tree[wrappers[0]]
    if not isinstance(tree, dict) or not tree:
        raise NotDataError("no state dict (tensors by name), and none in an entry " + " or ".join(map(repr, WRAPPERS)))
    for name, value in tree.items():
        if not isinstance(value, _View):
            raise NotDataError(f"the entry {name!r} is {type(value).__name__} and no tensor")
    return {str(name): view for name, view in tree.items()}, notes


def _array(view: _View, content: bytes) -> np.ndarray:
    """The view's numbers; bounds were checked against the elements that the storage says it has."""
    dtype = np.dtype(STORAGES[view.storage.kind])
    if len(content) != view.storage.elements * dtype.itemsize:
        raise ValueError(
            f"storage {view.storage.key}: expected {view.storage.elements * dtype.itemsize} bytes, found {len(content)}"
        )
    numbers = np.frombuffer(content, dtype)[view.offset:]
    array = np.lib.stride_tricks.as_strided(
        numbers, view.shape, [stride * dtype.itemsize for stride in view.strides], writeable=False
    )
    array = np.ascontiguousarray(array).reshape(view.shape)
    array = bfloat16_to_float32(array) if view.storage.kind == "BFloat16Storage" else array
    return array.astype(array.dtype.newbyteorder("="), copy=False)
