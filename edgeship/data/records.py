"""TFRecord files as images that are read from where they lie: an index of the records, and checksums on first use.

A record is its length (uint64), the length's masked CRC-32C, the data, and the data's masked CRC-32C, all little-endian
(tensorflow.org, "TFRecord and tf.train.Example", section on the format).
"""

from __future__ import annotations

import hashlib
import io
import mmap
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from edgeship.core.errors import DataError
from edgeship.data.crc32c import masked_crc32c
from edgeship.data.example import Span, features_of
from edgeship.data.images import LazyImages, unreadable

HEADER = struct.Struct("<QI")  # length, its checksum
FOOTER = struct.Struct("<I")
LENGTH = struct.Struct("<Q")
Value = TypeVar("Value", Span, int)
IMAGE, LABEL, TEXT = "image/encoded", "image/class/label", "image/class/text"


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordIndex:
    """Where the records of some files lie; one entry each."""

    files: tuple[Path, ...]
    file_of: np.ndarray  # int32, positions in `files`
    start: np.ndarray  # int64, of the record, in its file
    length: np.ndarray  # int64, of its data
    image_start: np.ndarray  # int64, in the data
    image_stop: np.ndarray
    labels: np.ndarray  # int64, as they are stored
    texts: dict[int, str]  # the classes' names, by label, where the records hold them
    checked: np.ndarray  # bool: the data were read and found whole
    digests: np.ndarray  # uint8 (n, 32): the SHA-256 of the encoded image, or zeros where nobody has asked for it

    def __len__(self) -> int:
        return len(self.start)

    def name(self, record: int) -> str:
        """What messages call a record."""
        return f"{self.files[self.file_of[record]]}: record at byte {self.start[record]:,}"

    def image(self, record: int) -> bytes:
        """The encoded image of a record. Raises DataError naming a record that is not as it was written."""
        path = self.files[self.file_of[record]]
        try:
            with path.open("rb") as stream:
                stream.seek(int(self.start[record]) + HEADER.size)
                data = stream.read(int(self.length[record]) + FOOTER.size)
        except OSError as error:
            raise unreadable(self.name(record), error) from error
        body = memoryview(data)[: int(self.length[record])]
        if not self.checked[record]:
            if FOOTER.pack(masked_crc32c(body)) != data[len(body) :]:
                raise DataError(
                    f"{self.name(record)}: expected the data that its checksum was made of, found others; "
                    "write or fetch the file again"
                )
            self.checked[record] = True
        return bytes(body[self.image_start[record] : self.image_stop[record]])

    def sha256(self, record: int) -> str:
        """The hexadecimal SHA-256 of a record's encoded image. Raises DataError."""
        if not self.digests[record].any():
            self.digests[record] = np.frombuffer(hashlib.sha256(self.image(record)).digest(), np.uint8)
        return bytes(self.digests[record]).hex()


class RecordImages(LazyImages):
    """Some records, as images."""

    def __init__(self, all_records: RecordIndex, chosen: np.ndarray, *, channels: int) -> None:
        super().__init__(channels)
        self._all, self._chosen = all_records, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def hashes(self) -> list[str]:
        """The hexadecimal SHA-256 of each encoded image, as its own file would have it. Raises DataError."""
        return [self._all.sha256(record) for record in self._chosen.tolist()]

    def _select(self, positions: np.ndarray) -> RecordImages:
        return RecordImages(self._all, self._chosen[positions], channels=self.channels)

    def _name(self, position: int) -> str:
        return self._all.name(int(self._chosen[position]))

    def _open(self, position: int) -> IO[bytes]:
        return io.BytesIO(self._all.image(int(self._chosen[position])))


def read_index(files: Sequence[Path]) -> RecordIndex:
    """Find every record's image and label, without reading the images.

    Raises:
        DataError: a file that is no TFRecord file or ends within a record, a record that is no Example of one encoded
            image and one label, or two names of one class; the file and the byte are named.
    """
    entries = array("q")  # plain integers: there may be millions
    texts: dict[int, str] = {}
    for number, path in enumerate(files):
        try:
            size = path.stat().st_size
            with path.open("rb") as stream:
                if size == 0:
                    continue
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                    for start, length in _records(path, view):
                        with view[start + HEADER.size : start + HEADER.size + length] as data:
                            image, label, text = _example(f"{path}: record at byte {start:,}", data)
                        entries.extend((number, start, length, image.start, image.stop, label))
                        _note_text(texts, label, text, f"{path}: record at byte {start:,}")
        except OSError as error:
            raise DataError(f"{path}: could not be read ({error.strerror or error})") from error
    table = np.array(entries, np.int64).reshape(-1, 6)
    return RecordIndex(
        files=tuple(files), file_of=table[:, 0].astype(np.int32), start=table[:, 1], length=table[:, 2],
        image_start=table[:, 3], image_stop=table[:, 4], labels=table[:, 5], texts=texts,
        checked=np.zeros(len(table), bool), digests=np.zeros((len(table), 32), np.uint8),
    )


def _records(path: Path, content: memoryview) -> list[tuple[int, int]]:
    """(start, length of the data) of each record."""
    found = []
    start = 0
    while start < len(content):
        where = f"{path}: record at byte {start:,}"
        header = bytes(content[start : start + HEADER.size])
        if len(header) < HEADER.size:
            raise DataError(f"{where}: truncated: expected a header of {HEADER.size} bytes, found {len(header)}")
        length, checksum = HEADER.unpack(header)
        if masked_crc32c(header[: LENGTH.size]) != checksum:
            raise DataError(
                f"{where}: expected the length of a record and its checksum, found other bytes; is it a TFRecord file, "
                "uncompressed and whole? Write or fetch it again"
            )
        stop = start + HEADER.size + length + FOOTER.size
        if stop > len(content):
            raise DataError(
                f"{where}: truncated: the record ends at byte {stop:,}, the file at {len(content):,}; fetch it again"
            )
        found.append((start, length))
        start = stop
    return found


def _example(where: str, data: memoryview) -> tuple[Span, int, str | None]:
    """(where the image lies, its label, the class's name)."""
    try:
        features = features_of(data, wanted=(IMAGE, LABEL, TEXT))
        text = _one(features, TEXT, Span) if TEXT in features else None
        return (
            _one(features, IMAGE, Span), _one(features, LABEL, int),
            bytes(data[text.start : text.stop]).decode() if text is not None else None,
        )
    except ValueError as error:
        raise DataError(
            f"{where}: expected a tf.train.Example with one {IMAGE} (bytes of a JPEG or PNG) and one {LABEL} (int64), "
            f"found another ({error}); write it so, or fetch it again"
        ) from error


def _one(features: dict[str, list[Span] | list[int]], name: str, kind: type[Value]) -> Value:
    values = features.get(name, [])
    if len(values) != 1 or not isinstance(values[0], kind):
        raise ValueError(f"{len(values)} values of {name}; the features are {', '.join(sorted(features)) or 'none'}")
    return values[0]


def _note_text(texts: dict[int, str], label: int, text: str | None, where: str) -> None:
    if text is not None and texts.setdefault(label, text) != text:
        raise DataError(
            f"{where}: class {label} is called {text!r} here and {texts[label]!r} in a record before; give each class "
            f"one name in {TEXT}, or none"
        )
