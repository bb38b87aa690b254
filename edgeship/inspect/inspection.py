"""`edgeship inspect FILE`: what is in a .tflite or .onnx file, as a record, as JSON and on the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeship.core.files import sha256_of_bytes
from edgeship.core.saturation import Saturation
from edgeship.core.text import some
from edgeship.graph import Graph, Tensor, graph_from_bytes, read_content
from edgeship.graph.form import form_of
from edgeship.graph.held import held_weights
from edgeship.graph.saturation import saturation_of
from edgeship.graph.tflite_metadata import STANDARD_ENTRY, TfliteMetadata, read_tflite_metadata
from edgeship.graph.traps import Trap, classify, find_traps
from edgeship.inspect.convolutions import slow_convolutions
from edgeship.inspect.processors import Processors, processors_of

# Metadata keys under which a file carries its own preprocessing (a JSON object) and labels (a JSON list).
PREPROCESSING_KEY = "edgeship.preprocessing"
LABELS_KEY = "edgeship.labels"
TENSORS_KEY = "edgeship.tensors"  # of models that take no pictures: {"inputs": [...], "outputs": [...]}
DEEPEST_JSON = 4  # nested lists and objects; our own has two
NOT_THERE = "not in the file"
UNREADABLE = "in the file, but unreadable"
# On the terminal; the JSON has everything.
TEXT_SHOWN = 200  # characters of a name or value
FIELDS_SHOWN = 16  # of the preprocessing
LABELS_SHOWN = 5
PLACES_SHOWN = 3  # of a warning


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of the model. A dimension or shape the file leaves open is None."""

    name: str
    dtype: str  # numpy's name
    shape: tuple[int | None, ...] | None
    scale: float | None  # None for a float tensor, and for a scale that is not finite
    zero_point: int | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What one file holds. Counts of operations are of the file, not of what a runtime makes of it."""

    path: str
    format: str  # "tflite" or "onnx"
    size_bytes: int
    sha256: str
    versions: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operations: dict[str, int]  # kind -> how many, the most frequent first
    integer_operations: int
    float_operations: int
    conversion_operations: int  # QUANTIZE, DequantizeLinear ...
    weighted_operations: int  # convolutions and matrix products
    per_channel_operations: int  # those with one weight scale per channel
    form: str  # in words, see edgeship/graph/form.py
    processors: Processors | None  # of an int8 ONNX file
    slow_convolutions: tuple[str, ...]  # of a U8S8 file: those whose channels miss the fastest kernel on x86, and why
    parameters: int  # stored values of their weights and biases, and of the weights in attention and recurrent layers
    weights_by_dtype: dict[str, int]  # dtype -> stored values, weights only
    preprocessing: dict[str, Any] | None  # docs/metadata.md; None also where it is unreadable
    labels: tuple[str, ...] | None
    tflite_metadata: TfliteMetadata | None  # the standard one
    metadata: dict[str, str]
    warnings: tuple[Trap, ...]
    saturation: Saturation  # whether sums of products can saturate on x86 processors


def inspect_file(path: Path) -> Inspection:
    """Read a .tflite or .onnx file and describe it.

    Raises:
        ArtifactError: the file is missing, broken or not what its suffix says.
    """
    content = read_content(path)
    graph = graph_from_bytes(content, where=path)
    classes = classify(graph)
    weighted = graph.weighted_operations()
    weights = {operation.weights.name: operation.weights for operation in weighted}
    biases = {operation.bias.name: operation.bias for operation in weighted if operation.bias is not None}
    by_dtype: Counter[str] = Counter()
    for tensor in weights.values():
        by_dtype[tensor.dtype] += _values(tensor)
    saturation = saturation_of(graph)
    held = {item.tensor.name: item for item in held_weights(graph) if item.tensor.name not in weights}
    for item in held.values():
        by_dtype[item.dtype] += item.values
    return Inspection(
        path=str(path),
        format=graph.format,
        size_bytes=len(content),
        sha256=sha256_of_bytes(content),
        versions=graph.versions,
        inputs=tuple(_port(graph.tensors[name]) for name in graph.inputs),
        outputs=tuple(_port(graph.tensors[name]) for name in graph.outputs),
        operations=dict(Counter(_kind(graph)).most_common()),
        integer_operations=len(classes.integer),
        float_operations=len(classes.floating),
        conversion_operations=len(classes.conversions),
        weighted_operations=len(weighted),
        per_channel_operations=sum(operation.weights.axis is not None for operation in weighted),
        form=form_of(graph),
        processors=processors_of(graph, saturation),
        slow_convolutions=slow_convolutions(graph),
        parameters=sum(map(_values, (weights | biases).values())) + sum(item.values for item in held.values()),
        weights_by_dtype=dict(by_dtype.most_common()),
        preprocessing=_json(graph.metadata, PREPROCESSING_KEY, dict),
        labels=_labels(graph.metadata),
        tflite_metadata=read_tflite_metadata(content) if graph.format == "tflite" else None,
        metadata={key: value for key, value in graph.metadata.items() if value},
        warnings=find_traps(graph),
        saturation=saturation,
    )


def inspection_to_dict(inspection: Inspection) -> dict[str, Any]:
    """Plain JSON values: dictionaries, lists, text, finite numbers and None."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(inspection), allow_nan=False))
    plain["saturation"]["sentence"] = inspection.saturation.sentence
    return plain


def _kind(graph: Graph) -> list[str]:
    """The operations' kinds; a custom one with its name, a foreign domain's with its domain."""
    return [
        f"{operation.domain}::{operation.kind}" if operation.domain
        else f"CUSTOM {operation.attributes['custom_code']}" if "custom_code" in operation.attributes
        else operation.kind
        for operation in graph.operations
    ]


def _port(tensor: Tensor) -> Port:
    known = tensor.scales is not None and tensor.zero_points is not None and tensor.axis is None
    scale = float(tensor.scales[0]) if known and tensor.scales is not None else None
    zero_point = int(tensor.zero_points[0]) if known and tensor.zero_points is not None else None
    if scale is not None and not math.isfinite(scale):
        scale = None
    return Port(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, scale=scale, zero_point=zero_point)


def _values(tensor: Tensor) -> int:
    """How many values a tensor has; 0 where the file does not say."""
    if tensor.shape is None or None in tensor.shape:
        return 0
    return math.prod(size for size in tensor.shape if size is not None)


def _json(metadata: dict[str, str], key: str, kind: type) -> Any:
    """A metadata entry parsed as JSON of the given kind; None where absent or of another form."""
    try:
        value = json.loads(metadata.get(key, "null"))
        json.dumps(value, allow_nan=False)  # Python reads NaN and 1e999, which JSON does not have
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) and _is_shallow(value, DEEPEST_JSON) else None


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested at most `levels` deep."""
    if not isinstance(value, list | dict):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in items)


def _labels(metadata: dict[str, str]) -> tuple[str, ...] | None:
    labels = _json(metadata, LABELS_KEY, list)
    return None if labels is None else tuple(str(label) for label in labels)


def render(inspection: Inspection) -> RenderableType:
    """The inspection for a terminal: a summary, preprocessing, inputs and outputs, operations, warnings."""
    parts: list[RenderableType] = [_ports(inspection), _operations(inspection), *map(_warning, inspection.warnings)]
    if inspection.preprocessing is not None:
        parts.insert(0, _preprocessing(inspection.preprocessing))
    return Group(_summary(inspection), *(line for part in parts for line in (Text(), part)))


def _summary(inspection: Inspection) -> Table:
    versions = ", ".join(f"{name} {number}" for name, number in inspection.versions.items())
    weights = ", ".join(f"{count:,} {dtype}" for dtype, count in inspection.weights_by_dtype.items())
    weighted, per_channel = inspection.weighted_operations, inspection.per_channel_operations
    integer = inspection.integer_operations
    total = integer + inspection.float_operations
    return _rows([
        ("file", inspection.path),
        ("format", f"{inspection.format} ({versions})"),
        ("size", f"{inspection.size_bytes:,} bytes"),
        ("sha256", inspection.sha256),
        ("form", inspection.form),
        *([] if inspection.processors is None else [("processors", inspection.processors.sentence)]),
        *([] if not inspection.slow_convolutions else [(
            "slow on x86",
            f"{len(inspection.slow_convolutions)} convolution(s) miss the fastest int8 kernel: "
            + some(inspection.slow_convolutions, shown=PLACES_SHOWN, by="; "),
        )]),
        ("parameters", f"{inspection.parameters:,}"),
        ("weights", weights or "none"),
        ("per channel", f"{per_channel} of {weighted} convolutions and matrix products"),
        ("integer", f"{integer} of {total} operations in the file; what a runtime executes may differ"),
        ("saturation", inspection.saturation.sentence),
        ("conversions", f"{inspection.conversion_operations} quantize or dequantize operations"),
        *_metadata(inspection),
    ])


def _rows(rows: Iterable[tuple[str, str]], *, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(_plain(name), _plain(value))
    return table


def _metadata(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """What is shown elsewhere in a readable form is not shown raw."""
    entries = dict(inspection.metadata)
    if inspection.preprocessing is None:
        yield "preprocessing", UNREADABLE if PREPROCESSING_KEY in entries else NOT_THERE
    else:
        del entries[PREPROCESSING_KEY]
    if inspection.labels is None:
        yield "labels", UNREADABLE if LABELS_KEY in entries else NOT_THERE
    else:
        del entries[LABELS_KEY]
        more = ", ..." if len(inspection.labels) > LABELS_SHOWN else ""
        names = ", ".join(inspection.labels[:LABELS_SHOWN])
        yield "labels", f"{len(inspection.labels):,}: {names[:TEXT_SHOWN]}{more}"
    if inspection.tflite_metadata is not None:
        entries.pop(STANDARD_ENTRY, None)
        yield "TFLite metadata", _standard(inspection.tflite_metadata)[:TEXT_SHOWN]
    for key, value in entries.items():
        yield f"metadata: {key[:TEXT_SHOWN]}", value[:TEXT_SHOWN]


def _preprocessing(fields: dict[str, Any]) -> Table:
    """One row per field, in the file's order."""
    rows = [(key[:TEXT_SHOWN], _brief(value)[:TEXT_SHOWN]) for key, value in list(fields.items())[:FIELDS_SHOWN]]
    if len(fields) > FIELDS_SHOWN:
        rows.append(("", f"and {len(fields) - FIELDS_SHOWN:,} more"))
    return _rows(rows, title="Preprocessing")


def _brief(value: Any) -> str:
    """A JSON value of a few levels on one line."""
    if isinstance(value, dict):
        said = {key.replace("_", " "): _brief(item) for key, item in value.items() if item is not None}
        return ", ".join(f"{key} {item}" for key, item in said.items())
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    if isinstance(value, float):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value)


def _standard(standard: TfliteMetadata) -> str:
    """For example "image 32x32 gray, mean 0, std 255, labels.txt (10)"."""
    parts = []
    if standard.color_space is not None or standard.image_width is not None:
        size = f" {standard.image_width}x{standard.image_height}" if standard.image_width else ""
        parts.append(f"image{size} {standard.color_space or ''}".rstrip())
    for name, values in (("mean", standard.mean), ("std", standard.std)):
        if values:
            parts.append(f"{name} {' '.join(f'{value:.6g}' for value in values)}")
    if standard.labels is not None:
        parts.append(f"{standard.labels_file} ({len(standard.labels):,})")
    if standard.problem is not None:
        parts.append(f"unreadable ({standard.problem})")
    return ", ".join(parts) or "no image and no labels"


def _ports(inspection: Inspection) -> Table:
    table = Table(title="Inputs and outputs", title_justify="left")
    for column in ("", "name", "dtype", "shape", "scale", "zero point"):
        table.add_column(column)
    for kind, ports in (("input", inspection.inputs), ("output", inspection.outputs)):
        for port in ports:
            scale = "" if port.scale is None else f"{port.scale:.9g}"
            zero_point = "" if port.zero_point is None else str(port.zero_point)
            table.add_row(kind, _plain(port.name), port.dtype, _shape(port), scale, zero_point)
    return table


def _shape(port: Port) -> str:
    if port.shape is None:
        return "?"
    return " x ".join("?" if size is None else str(size) for size in port.shape) or "scalar"


def _operations(inspection: Inspection) -> Table:
    table = Table(title="Operations in the file", title_justify="left")
    table.add_column("kind")
    table.add_column("count", justify="right")
    for kind, count in inspection.operations.items():
        table.add_row(_plain(kind), f"{count:,}")
    return table


def _warning(trap: Trap) -> Text:
    return Text.assemble(
        ("warning ", "bold yellow"), _plain(f"{trap.code}: {trap.message}"), "\n    ",
        _plain(some(trap.where, shown=PLACES_SHOWN)),
    )


def _plain(text: str) -> Text:
    """Text without markup or control characters: names in a file are not ours to trust."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in text))
