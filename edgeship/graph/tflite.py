"""Reading a .tflite file: a flatbuffer, walked with the schema's accessors; constants are zero-copy views."""

from __future__ import annotations

import functools
import importlib.util
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgeship.core.errors import ArtifactError
from edgeship.graph.records import BROKEN_CONTENT, Graph, Operation, Tensor, require_operands

IDENTIFIER = b"TFL3"  # at bytes 4..8 of every .tflite file
# A flatbuffer may point to the same bytes many times, so a small hostile file can describe an endless graph.
# Real models stay far below: a ResNet-34 has 3,000 of these items.
MAX_ITEMS = 1_000_000
ITEMS_PER_TABLE = 20  # reading a tensor or an operation takes about as long as twenty numbers
LONGEST_TUPLE = 64  # a longer attribute stays a numpy view instead of becoming Python objects
NUMPY_DTYPES = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
})
LINE_BREAKS = str.maketrans("", "", "\n\r\t")  # what a text may have beside printable letters
BITS_OF_PACKED = {"int2": 2, "int4": 4, "uint4": 4, "bfloat16": 16}
# Options that are numbers in the file and words here; the name of the schema's enumeration.
ENUMERATIONS = {"fused_activation_function": "ActivationFunctionType", "padding": "Padding"}


def read_tflite(content: bytes, *, where: Path) -> Graph:
    """Read the bytes of a .tflite file; `where` is named in messages.

    Tensor names need not be unique in TFLite: the second "x" is called "x#7", 7 being its index.

    Raises:
        ArtifactError: not TFLite, broken, or with several subgraphs, external buffers or sparse tensors.
    """
    if content[4:8] != IDENTIFIER:
        raise ArtifactError(
            f"{where}: expected a TFLite file ({IDENTIFIER.decode()!r} at byte 4), "
            f"found {bytes(content[4:8])!r} in {len(content):,} bytes; export it again"
        )
    try:
        return _Reader(content, where).graph()
    except BROKEN_CONTENT as error:
        raise ArtifactError(
            f"{where}: the TFLite content is broken or cut off "
            f"({type(error).__name__}: {error}); copy or export it again"
        ) from error


@functools.cache
def _schema() -> ModuleType:
    """The flatbuffer schema's Python module, loaded without its package.

    `import ai_edge_litert` loads a native library first, which inspecting a file must not depend on.
    """
    name = "ai_edge_litert.schema_py_generated"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("ai_edge_litert")
    if package is None or not package.submodule_search_locations:
        raise ArtifactError("reading .tflite files needs the package ai-edge-litert; install ai-edge-litert")
    path = Path(package.submodule_search_locations[0]) / "schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("edgeship.graph._tflite_schema", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArtifactError(f"{path}: expected ai-edge-litert's TFLite schema; reinstall ai-edge-litert")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _words(enumeration: str) -> dict[int, str]:
    """Number -> word of one of the schema's enumerations."""
    members = vars(getattr(_schema(), enumeration))
    return {number: word for word, number in members.items() if isinstance(number, int)}


class _Reader:
    """One walk over one file. Lengths are spent from a budget before they are looped over."""

    def __init__(self, content: bytes, where: Path) -> None:
        self.content = content
        self.where = where
        self.items_left = MAX_ITEMS
        self.model = _schema().Model.GetRootAs(content, 0)

    def graph(self) -> Graph:
        if self.model.SubgraphsLength() != 1:
            raise ArtifactError(
                f"{self.where}: expected one subgraph, found {self.model.SubgraphsLength():,}; models with "
                "control flow or several signatures are not supported, export one inference function"
            )
        subgraph = self.model.Subgraphs(0)
        count = self.tables(subgraph.TensorsLength())
        names = self.names([subgraph.Tensors(index) for index in range(count)])
        tensors = {name: self.tensor(subgraph.Tensors(index), name) for index, name in enumerate(names)}
        kinds = [self.kind(index) for index in range(self.tables(self.model.OperatorCodesLength()))]
        operations = tuple(
            self.operation(subgraph.Operators(index), kinds, names)
            for index in range(self.tables(subgraph.OperatorsLength()))
        )
        inputs = self.named(subgraph.InputsAsNumpy(), names)
        outputs = self.named(subgraph.OutputsAsNumpy(), names)
        if "" in (*inputs, *outputs):
            raise IndexError("tensor index -1 among the model's inputs or outputs")
        if not outputs or not operations:
            raise ArtifactError(
                f"{self.where}: expected a model, found a TFLite file with {len(operations)} operations and "
                f"{len(outputs)} outputs; export it again"
            )
        return Graph(
            format="tflite",
            inputs=inputs,
            outputs=outputs,
            tensors=tensors,
            operations=operations,
            versions={"schema": self.model.Version()},
            metadata=self.metadata(),
        )

    def spend(self, count: int) -> int:
        self.items_left -= count
        if self.items_left < 0:
            raise ValueError(f"more than {MAX_ITEMS:,} tensors, operations and operands")
        return count

    def tables(self, count: int) -> int:
        self.spend(count * ITEMS_PER_TABLE)
        return count

    def names(self, tables: list[Any]) -> list[str]:
        """Unique names, in order of index."""
        names: dict[str, int] = {}
        for index, table in enumerate(tables):
            raw = table.Name() or b""
            self.spend(len(raw) // 64)  # so that many tensors cannot share one endless name
            name = raw.decode() or f"#{index}"
            while name in names:
                name += f"#{index}"
            names[name] = index
        return list(names)

    def named(self, indices: Any, names: list[str]) -> tuple[str, ...]:
        """Tensor indices (an int32 view, or 0 for no vector) -> names; -1 is an absent optional input."""
        if isinstance(indices, int):
            return ()
        self.spend(indices.size)
        if indices.size and not -1 <= indices.min() <= indices.max() < len(names):
            raise ValueError(f"tensor index {indices.tolist()} beyond the {len(names)} tensors")
        return tuple("" if index == -1 else names[index] for index in indices.tolist())

    def tensor(self, table: Any, name: str) -> Tensor:
        if table.Sparsity() is not None or table.ExternalBuffer():
            raise ArtifactError(
                f"{self.where}: tensor {name!r} is sparse or stored outside the file, "
                "which is not supported; export it dense and whole"
            )
        dtype = _words("TensorType")[table.Type()].lower()
        shape = self.integers(table.ShapeAsNumpy())
        if any(size < 0 for size in shape):
            raise ValueError(f"tensor {name!r} has the shape {shape}")
        data = self.data(table.Buffer(), dtype, shape, name)
        grid = self.grid(table.Quantization(), shape, name)
        signature = self.integers(table.ShapeSignatureAsNumpy())
        if len(signature) == len(shape) and data is None:
            shape_or_none = tuple(None if size < 0 else size for size in signature)
        else:
            shape_or_none = shape
        return Tensor(name=name, dtype=dtype, shape=shape_or_none, data=data, **grid)

    def integers(self, view: Any) -> tuple[int, ...]:
        """An int32 vector, or 0 for an absent one, as Python integers."""
        if isinstance(view, int):
            return ()
        self.spend(view.size)
        return tuple(view.tolist())

    def data(self, buffer: int, dtype: str, shape: tuple[int, ...], name: str) -> np.ndarray | None:
        raw = self.buffer(buffer)
        if raw is None:
            return None
        count = math.prod(shape)
        if dtype in NUMPY_DTYPES:
            expected = count * np.dtype(dtype).itemsize
        elif dtype in BITS_OF_PACKED:
            expected = (count * BITS_OF_PACKED[dtype] + 7) // 8
        else:
            return raw  # strings and resources: their length does not follow from the shape
        if raw.size != expected:
            raise ValueError(f"tensor {name!r} {dtype}{list(shape)} has {raw.size:,} bytes, not {expected:,}")
        return raw.view(np.dtype(dtype).newbyteorder("<")).reshape(shape) if dtype in NUMPY_DTYPES else raw

    def buffer(self, index: int) -> np.ndarray | None:
        """A buffer's bytes, or None for an empty one (buffer 0 stands for "no data")."""
        if not 0 <= index < self.model.BuffersLength():
            raise IndexError(f"buffer {index} of {self.model.BuffersLength()}")
        table = self.model.Buffers(index)
        if table.Offset() > 1:  # files over 2 GB keep their weights behind the flatbuffer
            return np.frombuffer(self.content, np.uint8, count=table.Size(), offset=table.Offset())
        view = table.DataAsNumpy()
        return None if isinstance(view, int) or view.size == 0 else view

    def grid(self, table: Any, shape: tuple[int, ...], name: str) -> dict[str, Any]:
        """The Tensor fields scales, zero_points and axis; none for blockwise and other custom grids."""
        if table is None or table.ScaleLength() == 0:
            return {}
        scales, zero_points = table.ScaleAsNumpy(), table.ZeroPointAsNumpy()
        if isinstance(zero_points, int) or zero_points.size == 0:
            zero_points = np.zeros(1, np.int64)
        axis = table.QuantizedDimension() if scales.size > 1 else None
        if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != scales.size):
            raise ValueError(f"tensor {name!r} {list(shape)} has {scales.size:,} scales along axis {axis}")
        if zero_points.size not in (1, scales.size):
            raise ValueError(f"tensor {name!r} has {scales.size:,} scales, {zero_points.size:,} zero points")
        return {
            "scales": scales,
            "zero_points": np.broadcast_to(zero_points, scales.shape),
            "axis": axis,
        }

    def kind(self, index: int) -> tuple[str, str]:
        """The kind, and the custom operation's name ("" for a builtin one)."""
        table = self.model.OperatorCodes(index)
        # Codes up to 127 used to be the only ones and live in the old field; the larger of the two counts.
        number = max(table.DeprecatedBuiltinCode(), table.BuiltinCode())
        custom = table.CustomCode() or b""
        self.spend(len(custom) // 64)
        return _words("BuiltinOperator").get(number, f"BUILTIN_{number}"), custom.decode()

    def operation(self, table: Any, kinds: list[tuple[str, str]], names: list[str]) -> Operation:
        kind, custom = kinds[table.OpcodeIndex()]
        outputs = self.named(table.OutputsAsNumpy(), names)
        attributes = self.attributes(table)
        if custom:
            attributes["custom_code"] = custom
        operation = Operation(
            kind=kind,
            name=next(filter(None, outputs), ""),
            inputs=self.named(table.InputsAsNumpy(), names),
            outputs=outputs,
            attributes=attributes,
        )
        require_operands(operation)
        return operation

    def attributes(self, table: Any) -> dict[str, Any]:
        schema = _schema()
        options = schema.BuiltinOptionsCreator(table.BuiltinOptionsType(), table.BuiltinOptions())
        if options is None:
            options = schema.BuiltinOptions2Creator(table.BuiltinOptions2Type(), table.BuiltinOptions2())
        found = {} if options is None else {_snake_case(name): value for name, value in vars(options).items()}
        return {name: self.attribute(name, value) for name, value in found.items()}

    def attribute(self, name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value if value.size > LONGEST_TUPLE else self.integers(value)
        if isinstance(value, bytes):
            self.spend(len(value) // 64)
            return value.decode(errors="replace")
        return _words(ENUMERATIONS[name]).get(value, value) if name in ENUMERATIONS else value

    def metadata(self) -> dict[str, str]:
        description = (self.model.Description() or b"").decode(errors="replace")
        return {"description": description} | {name: _text(content) for name, content in self.entries()}

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """The metadata entries: names, and the buffers they point to."""
        for index in range(self.tables(self.model.MetadataLength())):
            entry = self.model.Metadata(index)
            raw = self.buffer(entry.Buffer())
            content = b"" if raw is None else raw.tobytes()
            self.spend(len(content) // 64)
            yield (entry.Name() or b"").decode(), content


def metadata_entry(content: bytes, name: str) -> bytes | None:
    """A metadata entry's bytes, from a file that `read_tflite` has accepted; None where there is none."""
    return dict(_Reader(content, Path("model.tflite")).entries()).get(name)


def _text(content: bytes) -> str:
    """UTF-8 text as it is, anything else as its length."""
    content = content.rstrip(b"\0")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"<{len(content):,} bytes>"
    readable = text.translate(LINE_BREAKS).isprintable()
    return text if readable else f"<{len(content):,} bytes>"


def _snake_case(name: str) -> str:
    """strideW -> stride_w, fusedActivationFunction -> fused_activation_function: as in the schema."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
