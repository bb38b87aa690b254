"""The standard TFLite metadata: a ModelMetadata flatbuffer in the model, a ZIP archive of files behind it.

Source: tensorflow/tflite-support, `tensorflow_lite_support/metadata/metadata_schema.fbs` (identifier "M001"). Only
the fields that edgeship writes and shows are named here; MediaPipe's copy of the schema has the same ones.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edgeship.graph.records import BROKEN_CONTENT
from edgeship.graph.tflite import metadata_entry

STANDARD_ENTRY = "TFLITE_METADATA"  # the name of the buffer in the model
STANDARD_IDENTIFIER = b"M001"  # at bytes 4..8 of that buffer

# Limits for files from elsewhere, far above what real ones have.
MAX_LABELS_BYTES = 1024 * 1024  # unpacked; a small archive can unpack to gigabytes
MAX_ARCHIVE_BYTES = 4 * 1024 * 1024  # at the end of the file; its directory takes time to read
MAX_TABLES = 64  # in one vector
MAX_CHANNELS = 64  # values of mean and std
MAX_TEXT_BYTES = 1024
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others without a limit
# What zipfile raises on bytes that are no archive, an encrypted one, or one of another kind.
BROKEN_ARCHIVE = (*BROKEN_CONTENT, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error)


class ModelSlot(IntEnum):
    """Fields of the table ModelMetadata, counted as in the schema."""

    NAME = 0
    SUBGRAPHS = 3
    MIN_PARSER_VERSION = 7


class SubgraphSlot(IntEnum):
    """Fields of SubGraphMetadata."""

    INPUTS = 2
    OUTPUTS = 3


class TensorSlot(IntEnum):
    """Fields of TensorMetadata."""

    NAME = 0
    DESCRIPTION = 1
    CONTENT = 3
    PROCESS_UNITS = 4
    FILES = 6


class ContentSlot(IntEnum):
    """Fields of Content; a union takes two, its kind and its table."""

    KIND = 0
    PROPERTIES = 1


class ImageSlot(IntEnum):
    """Fields of ImageProperties."""

    COLOR_SPACE = 0
    DEFAULT_SIZE = 1


class SizeSlot(IntEnum):
    """Fields of ImageSize."""

    WIDTH = 0
    HEIGHT = 1


class UnitSlot(IntEnum):
    """Fields of ProcessUnit: a union."""

    KIND = 0
    OPTIONS = 1


class NormalizationSlot(IntEnum):
    """Fields of NormalizationOptions; both per channel, on the pixels' own scale of 0 to 255."""

    MEAN = 0
    STD = 1


class FileSlot(IntEnum):
    """Fields of AssociatedFile."""

    NAME = 0
    DESCRIPTION = 1
    KIND = 2


FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # kinds of the union ContentProperties
NORMALIZATION = 1  # a kind of the union ProcessUnitOptions
AXIS_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
COLOR_SPACES = {"RGB": 1, "gray": 2}  # ColorSpaceType


@dataclass(frozen=True, kw_only=True)
class TfliteMetadata:
    """What the standard metadata says of the model, its first input and its first output; None is not said."""

    name: str | None = None
    image_width: int | None = None  # pixels
    image_height: int | None = None
    color_space: str | None = None  # "RGB" or "gray"
    mean: tuple[float, ...] | None = None  # (pixel - mean) / std, pixels from 0 to 255
    std: tuple[float, ...] | None = None
    labels_file: str | None = None  # in the archive behind the model
    labels: tuple[str, ...] | None = None
    problem: str | None = None  # why something could not be read


def read_tflite_metadata(content: bytes) -> TfliteMetadata | None:
    """The standard metadata of a file that `read_tflite` has accepted; None where it has none.

    Whatever the bytes are, the answer comes in bounded time and memory: what cannot be read is a `problem`.
    """
    try:
        entry = metadata_entry(content, STANDARD_ENTRY)
        if entry is None:
            return None
        said = _said(entry)
    except BROKEN_CONTENT as error:
        return TfliteMetadata(problem=_sentence(error))
    if said["labels_file"] is None:
        return TfliteMetadata(**said)
    try:
        labels = _labels(content, said["labels_file"])
    except BROKEN_ARCHIVE as error:
        return TfliteMetadata(**said, problem=f"{said['labels_file']}: {_sentence(error)}")
    return TfliteMetadata(**said, labels=labels)


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_TEXT_BYTES]


def _said(entry: bytes) -> dict[str, Any]:
    """The fields of TfliteMetadata that the flatbuffer has."""
    if entry[4:8] != STANDARD_IDENTIFIER:
        raise ValueError(f"expected {STANDARD_IDENTIFIER!r} at byte 4, found {entry[4:8]!r}")
    model = _Table.root(entry)
    subgraph = _first(model.tables(ModelSlot.SUBGRAPHS))
    source = _first(subgraph.tables(SubgraphSlot.INPUTS)) if subgraph else None
    result = _first(subgraph.tables(SubgraphSlot.OUTPUTS)) if subgraph else None
    files = [
        table.text(FileSlot.NAME) for table in (result.tables(TensorSlot.FILES) if result else [])
        if table.byte(FileSlot.KIND) == AXIS_LABELS
    ]
    return {
        "name": model.text(ModelSlot.NAME),
        "labels_file": next(filter(None, files), None),
        **(_image(source) | _normalization(source) if source else {}),
    }


def _image(tensor: _Table) -> dict[str, Any]:
    content = tensor.table(TensorSlot.CONTENT)
    if content is None or content.byte(ContentSlot.KIND) != IMAGE_PROPERTIES:
        return {}
    image = content.table(ContentSlot.PROPERTIES)
    if image is None:
        return {}
    size = image.table(ImageSlot.DEFAULT_SIZE)
    words = {number: word for word, number in COLOR_SPACES.items()}
    return {
        "color_space": words.get(image.byte(ImageSlot.COLOR_SPACE)),
        "image_width": size.uint(SizeSlot.WIDTH) if size else None,
        "image_height": size.uint(SizeSlot.HEIGHT) if size else None,
    }


def _normalization(tensor: _Table) -> dict[str, Any]:
    for unit in tensor.tables(TensorSlot.PROCESS_UNITS):
        options = unit.table(UnitSlot.OPTIONS)
        if unit.byte(UnitSlot.KIND) == NORMALIZATION and options is not None:
            return {"mean": options.floats(NormalizationSlot.MEAN), "std": options.floats(NormalizationSlot.STD)}
    return {}


def _labels(content: bytes, name: str) -> tuple[str, ...]:
    """The lines of a file in the archive that ends the model file.

    Only the end is looked at: offsets in an archive may count from the start of the file or from its own, and
    zipfile finds out which.
    """
    with zipfile.ZipFile(io.BytesIO(content[-MAX_ARCHIVE_BYTES:])) as archive:
        member = archive.getinfo(name)
        if member.compress_type not in COMPRESSIONS:
            raise ValueError(f"compression {member.compress_type} is not supported")
        with archive.open(member) as stream:
            text = stream.read(MAX_LABELS_BYTES + 1)
    if len(text) > MAX_LABELS_BYTES:
        raise ValueError(f"more than {MAX_LABELS_BYTES:,} bytes of labels")
    return tuple(text.decode().removesuffix("\n").split("\n")) if text else ()


def _first(tables: list[_Table]) -> _Table | None:
    return tables[0] if tables else None


class _Table:
    """A table of the flatbuffer, read by slot. What lies outside the bytes raises one of BROKEN_CONTENT."""

    def __init__(self, content: bytes, position: int) -> None:
        from flatbuffers.table import Table

        self.content = content
        self.source = Table(content, position)

    @staticmethod
    def root(content: bytes) -> _Table:
        return _Table(content, int.from_bytes(content[:4], "little"))

    def position(self, slot: int) -> int | None:
        """Where the field's value lies in the content; None where the table lacks it."""
        offset = self.source.Offset(4 + 2 * slot)  # a vtable starts with its own and the table's size
        return int(self.source.Pos + offset) if offset else None

    def number(self, slot: int, kind: str) -> int:
        from flatbuffers import number_types

        position = self.position(slot)
        return 0 if position is None else int(self.source.Get(getattr(number_types, kind), position))

    def byte(self, slot: int) -> int:
        return self.number(slot, "Uint8Flags")

    def uint(self, slot: int) -> int:
        return self.number(slot, "Uint32Flags")

    def text(self, slot: int) -> str | None:
        position = self.position(slot)
        if position is None:
            return None
        text: bytes = self.source.String(position)
        if len(text) > MAX_TEXT_BYTES:
            raise ValueError(f"a text of {len(text):,} bytes")
        return text.decode()

    def table(self, slot: int) -> _Table | None:
        position = self.position(slot)
        return None if position is None else _Table(self.content, self.source.Indirect(position))

    def tables(self, slot: int) -> list[_Table]:
        start, length = self.vector(slot, limit=MAX_TABLES)
        places = range(start, start + 4 * length, 4)
        return [_Table(self.content, self.source.Indirect(place)) for place in places]

    def floats(self, slot: int) -> tuple[float, ...]:
        from flatbuffers import number_types

        start, length = self.vector(slot, limit=MAX_CHANNELS)
        places = range(start, start + 4 * length, 4)
        values = tuple(float(self.source.Get(number_types.Float32Flags, place)) for place in places)
        if not all(map(math.isfinite, values)):
            raise ValueError(f"mean or std of {values}")
        return values

    def vector(self, slot: int, *, limit: int) -> tuple[int, int]:
        """Where a vector's elements start, and how many there are."""
        position = self.position(slot)
        if position is None:
            return 0, 0
        start = self.source.Indirect(position)
        length = int.from_bytes(self.content[start : start + 4], "little")
        if length > limit:
            raise ValueError(f"a list of {length:,} items")
        return start + 4, length
