"""Files as torch.save writes them, without torch (torch/serialization.py: `_save` and `_legacy_save`).

The pickles come from Python's own pickler, at protocol 2 and with storages as persistent ids, as torch's do; stand-ins
under torch's names are importable while it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage",
    "uint16": "BFloat16Storage", "uint8": "ByteStorage", "complex64": "ComplexFloatStorage",
}


class Storage:
    """Raw numbers; several tensors may be views of one."""

    def __init__(self, numbers: np.ndarray, *, kind: str | None = None) -> None:
        self.numbers = np.ascontiguousarray(numbers).reshape(-1)
        self.kind = kind or KINDS[str(numbers.dtype)]
        self.elements = self.numbers.size  # what the file says; a test may lie here


class Tensor:
    """What torch pickles of a tensor: a call of _rebuild_tensor_v2."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def tensor(array: np.ndarray) -> Tensor:
    """A contiguous tensor of its own storage; uint16 stands for bfloat16."""
    strides = [stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides]
    return Tensor(Storage(array), 0, array.shape, tuple(strides))


def state_dict(arrays: dict[str, np.ndarray]) -> OrderedDict[str, Any]:
    """Tensors by name, with the attribute in which torch keeps the versions of layers."""
    found: Any = OrderedDict((name, tensor(array)) for name, array in arrays.items())
    found._metadata = OrderedDict([("", {"version": 1}), ("bn1", {"version": 2})])
    return found


def training_arguments() -> argparse.Namespace:
    """What training scripts save beside the weights."""
    return argparse.Namespace(lr=0.1, arch="resnet34", resume=None)


def save_zip(path: Path, tree: Any, *, compression: int = zipfile.ZIP_STORED, byteorder: str = "little") -> None:
    """The form since torch 1.6."""
    pickled, storages = _pickle(tree, view=())
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.numbers.tobytes())
        archive.writestr("archive/version", "3\n")


def save_legacy(path: Path, tree: Any) -> None:
    """The form before torch 1.6: five pickles, then each storage behind its number of elements."""
    pickled, storages = _pickle(tree, view=(None,))
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, sizes)]
    parts += [pickled, pickle.dumps(sorted(storages), 2)]
    for _, storage in sorted(storages.items()):
        parts += [struct.pack("<q", storage.numbers.size), storage.numbers.tobytes()]
    path.write_bytes(b"".join(parts))


def save_pickle_in_zip(path: Path, pickled: bytes) -> None:
    """A zip with any pickle at all in the place of the state dict."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)


def _pickle(tree: Any, *, view: tuple[None, ...]) -> tuple[bytes, dict[str, Storage]]:
    keys: dict[int, str] = {}
    storages: dict[str, Storage] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            if not isinstance(item, Storage):
                return None
            key = keys.setdefault(id(item), str(len(keys)))
            storages[key] = item
            return ("storage", getattr(sys.modules["torch"], item.kind), key, "cpu", item.elements, *view)

    stream = io.BytesIO()
    with _torch_names():
        Pickler(stream, 2).dump(tree)
    return stream.getvalue(), storages


@contextlib.contextmanager
def _torch_names() -> Iterator[None]:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None:
        raise AssertionError("never called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        del sys.modules["torch"], sys.modules["torch._utils"]
