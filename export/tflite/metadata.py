"""Writing TFLite metadata: the standard's flatbuffer and its archive of labels, and entries of our own.

edgeship/graph/tflite_metadata.py reads the standard back and names its fields and their source. flatbuffers has no
generated code for that schema in any package we need, so the few tables are built by hand.
"""

from __future__ import annotations

import io
import zipfile
from enum import IntEnum
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edgeship.core.artifact import Preprocessing, TensorSpec
from edgeship.export.tflite.names import pack
from edgeship.graph.tflite_metadata import (
    AXIS_LABELS,
    COLOR_SPACES,
    FEATURE_PROPERTIES,
    IMAGE_PROPERTIES,
    NORMALIZATION,
    STANDARD_ENTRY,
    STANDARD_IDENTIFIER,
    ContentSlot,
    FileSlot,
    ImageSlot,
    ModelSlot,
    NormalizationSlot,
    SizeSlot,
    SubgraphSlot,
    TensorSlot,
    UnitSlot,
)

LABELS_FILE = "labels.txt"
MODEL_NAME = "edgeship image classifier"
PLAIN_MODEL_NAME = "edgeship model"
MIN_PARSER_VERSION = "1.0.0"  # every field used here is in the first version of the schema
CLASS_VALUES = {
    "probabilities": "The probability of each class.",
    "logits": "The logit of each class: a softmax makes probabilities of them, and the largest is the answer.",
}
PIXEL_MAX = 255  # the standard normalizes pixels of 0..255, edgeship of 0..1
# An archive's date is part of its bytes; this is the first one the format can tell.
ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)
UNIX, READABLE_BY_ALL = 3, 0o100644 << 16  # who made the archive, and what unzip gives the file


def with_tflite_metadata(
    content: bytes,
    entries: dict[str, str],
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    input: TensorSpec,
    output: TensorSpec,
    values: str = "probabilities",
) -> bytes:
    """The same model with the standard metadata, `entries` as further ones, and the labels as an archive.

    `values` says what the output is: a key of `CLASS_VALUES`.
    What an earlier call has added is replaced. Buffers stay at multiples of 16.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    standard = _standard(preprocessing, input, output, values)
    for name, data in {STANDARD_ENTRY: standard, **{name: text.encode() for name, text in entries.items()}}.items():
        _set_entry(file, name, data)
    return _with_labels(pack(file), labels)


def with_tflite_tensors(
    content: bytes, entries: dict[str, str], *, inputs: dict[str, str], outputs: dict[str, str]
) -> bytes:
    """Return the same model with the standard metadata of plain tensors, and `entries` as further ones.

    Args:
        inputs, outputs: name -> meaning, in the file's order.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    builder = flatbuffers.Builder(1024)
    sides = [_tables(builder, [_plain_tensor(builder, *item) for item in side.items()]) for side in (inputs, outputs)]
    subgraph = _table(builder, offsets=dict(zip((SubgraphSlot.INPUTS, SubgraphSlot.OUTPUTS), sides, strict=True)))
    standard = _finished(builder, PLAIN_MODEL_NAME, subgraph)
    for name, data in {STANDARD_ENTRY: standard, **{name: text.encode() for name, text in entries.items()}}.items():
        _set_entry(file, name, data)
    return pack(file)


def _plain_tensor(builder: Any, name: str, meaning: str) -> int:
    return _table(builder, offsets={
        TensorSlot.NAME: builder.CreateString(name),
        TensorSlot.DESCRIPTION: builder.CreateString(meaning),
        TensorSlot.CONTENT: _content(builder, FEATURE_PROPERTIES, _table(builder)),
    })


def _set_entry(file: Any, name: str, data: bytes) -> None:
    """Fill the metadata entry's buffer, or add both."""
    file.metadata = file.metadata or []
    found = next((entry for entry in file.metadata if entry.name == name.encode()), None)
    if found is None:
        found = schema.MetadataT()
        found.name, found.buffer = name.encode(), len(file.buffers)
        file.metadata.append(found)
        file.buffers.append(schema.BufferT())
    file.buffers[found.buffer].data = data


def _with_labels(model: bytes, labels: tuple[str, ...]) -> bytes:
    """The model with a ZIP archive behind it, as the standard wants; offsets count from the model's start.

    The file is stored as it is: the readers for Android and C++ hand out its bytes without unpacking.
    """
    stream = io.BytesIO()
    stream.write(model)
    member = zipfile.ZipInfo(LABELS_FILE, ARCHIVE_DATE)
    member.create_system, member.external_attr = UNIX, READABLE_BY_ALL
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, "".join(f"{label}\n" for label in labels))
    return stream.getvalue()


def _standard(spec: Preprocessing, input: TensorSpec, output: TensorSpec, values: str) -> bytes:
    """The ModelMetadata flatbuffer. In a flatbuffer, what is pointed to is written first."""
    builder = flatbuffers.Builder(1024)
    subgraph = _table(builder, offsets={
        SubgraphSlot.INPUTS: _tables(builder, [_image_tensor(builder, spec, input)]),
        SubgraphSlot.OUTPUTS: _tables(builder, [_labelled_tensor(builder, output, values)]),
    })
    return _finished(builder, MODEL_NAME, subgraph)


def _finished(builder: Any, name: str, subgraph: int) -> bytes:
    model = _table(builder, offsets={
        ModelSlot.NAME: builder.CreateString(name),
        ModelSlot.SUBGRAPHS: _tables(builder, [subgraph]),
        ModelSlot.MIN_PARSER_VERSION: builder.CreateString(MIN_PARSER_VERSION),
    })
    builder.Finish(model, STANDARD_IDENTIFIER)
    return bytes(builder.Output())


def _image_tensor(builder: Any, spec: Preprocessing, tensor: TensorSpec) -> int:
    """The TensorMetadata of the input: an image of this size and colour, normalized like this."""
    size = _table(builder, uints={SizeSlot.WIDTH: spec.image_size, SizeSlot.HEIGHT: spec.image_size})
    image = _table(
        builder, offsets={ImageSlot.DEFAULT_SIZE: size}, enums={ImageSlot.COLOR_SPACE: COLOR_SPACES[spec.channel_order]}
    )
    mean, std = spec.mean, spec.std
    if len(set(zip(mean, std, strict=True))) == 1:  # one value stands for all channels; MediaPipe takes only that
        mean, std = mean[:1], std[:1]
    normalization = _table(builder, offsets={
        NormalizationSlot.MEAN: _floats(builder, mean), NormalizationSlot.STD: _floats(builder, std),
    })
    unit = _table(builder, offsets={UnitSlot.OPTIONS: normalization}, enums={UnitSlot.KIND: NORMALIZATION})
    return _table(builder, offsets={
        TensorSlot.NAME: builder.CreateString(tensor.name),
        TensorSlot.DESCRIPTION: builder.CreateString(f"The image to classify: {spec.resize}."),
        TensorSlot.CONTENT: _content(builder, IMAGE_PROPERTIES, image),
        TensorSlot.PROCESS_UNITS: _tables(builder, [unit]),
    })


def _labelled_tensor(builder: Any, tensor: TensorSpec, values: str) -> int:
    """The TensorMetadata of the output: one value per line of the labels' file."""
    labels = _table(
        builder, enums={FileSlot.KIND: AXIS_LABELS},
        offsets={
            FileSlot.NAME: builder.CreateString(LABELS_FILE),
            FileSlot.DESCRIPTION: builder.CreateString("The classes' names, one per line."),
        },
    )
    return _table(builder, offsets={
        TensorSlot.NAME: builder.CreateString(tensor.name),
        TensorSlot.DESCRIPTION: builder.CreateString(CLASS_VALUES[values]),
        TensorSlot.CONTENT: _content(builder, FEATURE_PROPERTIES, _table(builder)),
        TensorSlot.FILES: _tables(builder, [labels]),
    })


def _content(builder: Any, kind: int, properties: int) -> int:
    return _table(builder, offsets={ContentSlot.PROPERTIES: properties}, enums={ContentSlot.KIND: kind})


def _table(
    builder: Any,
    *,
    offsets: dict[IntEnum, int] | None = None,
    enums: dict[IntEnum, int] | None = None,
    uints: dict[IntEnum, int] | None = None,
) -> int:
    """A table with these fields by slot: references, one-byte enumerations, unsigned 32-bit numbers."""
    kinds = (
        (builder.PrependUOffsetTRelativeSlot, offsets or {}), (builder.PrependUint8Slot, enums or {}),
        (builder.PrependUint32Slot, uints or {}),
    )
    builder.StartObject(1 + max((slot for _, fields in kinds for slot in fields), default=-1))
    for prepend, fields in kinds:
        for slot, value in fields.items():
            prepend(int(slot), value, 0)
    return int(builder.EndObject())


def _tables(builder: Any, tables: list[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _floats(builder: Any, values: tuple[float, ...]) -> int:
    """Normalization constants, moved from pixels of 0..1 to pixels of 0..255."""
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value * PIXEL_MAX)
    return int(builder.EndVector())
