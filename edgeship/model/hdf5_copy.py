"""A child process of its own: copies what is plain data in an HDF5 file into a fresh one. `python hdf5_copy.py A B`.

The HDF5 library is native code, and files made to break it have ended processes before; the parent therefore opens
nothing but the copy. Only groups, numbers and texts are copied. What reaches outside the file or grows when it is read
is refused: one line on standard output, exit code 3 (4: the copy could not be written). Needs h5py alone, and imports
nothing of edgeship.
"""

from __future__ import annotations

import io
import math
import resource
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

REFUSED, NOT_WRITTEN = 3, 4
# Keras nests a group per layer and per model in a model; names and shapes are all that attributes hold.
DEEPEST_GROUP, MOST_OBJECTS, LARGEST_ATTRIBUTES_BYTES = 64, 200_000, 64 * 2**20
# Address space beside what the file holds: Python with h5py takes 0.3 GB.
SPARE_BYTES = 2 * 2**30
# Of the processor's time, so that a busy machine changes nothing: damaged files make the library run in circles.
SECONDS, BYTES_PER_SECOND = 20, 10_000_000
NUMBERS = "biuf"
# Written by `model.save("x.h5")` and of no use without the optimizer.
PASSED_OVER = "optimizer_weights"


class Refused(Exception):
    """The file holds something else than plain data; the message says where and what."""


class Copy:
    """One copy, and how much of the file it has taken so far."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes, self.numbers_bytes, self.attributes_bytes, self.objects = size_bytes, 0, 0, 0

    def group(self, source: Any, target: Any, *, depth: int) -> None:
        """Copy a group's attributes and everything in it."""
        self._attributes(source, target)
        for name in source:
            self.objects += 1
            where = f"{source.name.rstrip('/')}/{name}".removeprefix("/")
            if depth == 0 and name == PASSED_OVER:
                continue
            if self.objects > MOST_OBJECTS or depth == DEEPEST_GROUP:
                raise Refused(f"{where[:200]}: expected at most {MOST_OBJECTS:,} groups and arrays, and at most "
                              f"{DEEPEST_GROUP} within each other")
            if not isinstance(source.get(name, getlink=True), h5py.HardLink):
                raise Refused(f"{where}: expected its numbers in the file, found a link to another place")
            item = source[name]
            if isinstance(item, h5py.Group):
                self.group(item, target.create_group(name), depth=depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._numbers(item, target, name, where)
            else:
                raise Refused(f"{where}: expected numbers, found a named type")

    def _numbers(self, item: Any, target: Any, name: str, where: str) -> None:
        if item.dtype.kind not in NUMBERS:
            raise Refused(f"{where}: expected numbers, found {item.dtype}")
        self.numbers_bytes += item.nbytes
        if item.external or item.is_virtual or item.compression or self.numbers_bytes > self.size_bytes:
            raise Refused(f"{where}: expected its numbers in the file, uncompressed, as Keras saves them")
        copied = target.create_dataset(name, data=item[()])
        self._attributes(item, copied)

    def _attributes(self, source: Any, target: Any) -> None:
        for name in source.attrs:
            self.objects += 1
            known = source.attrs.get_id(name)
            self.attributes_bytes += math.prod(known.shape) * known.dtype.itemsize
            if self.attributes_bytes <= LARGEST_ATTRIBUTES_BYTES and self.objects <= MOST_OBJECTS:
                value = source.attrs[name]
                self.attributes_bytes += _text_bytes(value)
            if self.attributes_bytes > LARGEST_ATTRIBUTES_BYTES or self.objects > MOST_OBJECTS:
                raise Refused(f"attribute {name!r}: expected at most {LARGEST_ATTRIBUTES_BYTES:,} bytes in all")
            if not _is_plain(value):
                raise Refused(f"attribute {name!r}: expected numbers or texts, found {type(value).__name__}")
            target.attrs[name] = value


def _text_bytes(value: Any) -> int:
    """The length of texts, which an attribute's own size does not count."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return sum(len(item) for item in value.reshape(-1) if isinstance(item, str | bytes))
    return len(value) if isinstance(value, str | bytes) else 0


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return all(isinstance(item, str | bytes) for item in value.reshape(-1))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in NUMBERS + "SU"
    return isinstance(value, str | bytes)


def main(source: str, target: str) -> int:
    """Copy, and return the exit code."""
    size = Path(source).stat().st_size
    limit = SPARE_BYTES + 4 * size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = SECONDS + size // BYTES_PER_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    copy = io.BytesIO()  # the library loses the reason why it could not write to a disk
    try:
        with h5py.File(source, "r") as read, h5py.File(copy, "w") as written:
            Copy(size).group(read, written, depth=0)
    except Refused as refusal:
        sys.stdout.write(str(refusal))
        return REFUSED
    # What h5py raises on damaged bytes; RecursionError and SystemError are among it.
    except Exception as error:  # noqa: BLE001
        sys.stdout.write(f"{type(error).__name__}: {error}".partition("\n")[0])
        return REFUSED
    try:
        Path(target).write_bytes(copy.getbuffer())
    except OSError as error:
        sys.stdout.write(error.strerror or str(error))
        return NOT_WRITTEN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
