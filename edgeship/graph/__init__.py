"""What is in a .tflite or .onnx file, read without running it: no native runtime, no TensorFlow.

    read_graph(path)                    one file, by its content and its suffix -> Graph
    graph_from_bytes(content, where=)   the same, for content already read
    read_tflite(content, where=)        bytes of a .tflite file -> Graph
    read_onnx(content, where=)          bytes of an .onnx file -> Graph

The files are untrusted: whatever the bytes are, the answer is a Graph or an ArtifactError, in bounded time
and memory.
"""

from __future__ import annotations

from pathlib import Path

from edgeship.core.errors import ArtifactError
from edgeship.graph.onnx import read_onnx
from edgeship.graph.records import Graph, Operation, Tensor, WeightedOperation
from edgeship.graph.tflite import IDENTIFIER as TFLITE_IDENTIFIER
from edgeship.graph.tflite import read_tflite

__all__ = [
    "Graph",
    "Operation",
    "Tensor",
    "WeightedOperation",
    "graph_from_bytes",
    "read_content",
    "read_graph",
    "read_onnx",
    "read_tflite",
]

ORT_IDENTIFIER = b"ORTM"  # ONNX Runtime's own flatbuffer format


def read_graph(path: Path) -> Graph:
    """Read a .tflite or .onnx file.

    Raises:
        ArtifactError: the file is missing, empty, broken, not what its suffix says, or uses what this reader
            does not read (several subgraphs, external data, sparse tensors).
    """
    return graph_from_bytes(read_content(path), where=path)


def read_content(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ArtifactError: the file is missing, a folder, or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: expected a .tflite or .onnx file, but it could not be read "
            f"({error.strerror or error}); check the path"
        ) from error


def graph_from_bytes(content: bytes, *, where: Path) -> Graph:
    """Read a model from its bytes; the suffix of `where` says what they should be.

    Raises:
        ArtifactError: as `read_graph`.
    """
    if not content:
        raise ArtifactError(f"{where}: expected a model, found an empty file; export it again")
    suffix, identifier = where.suffix.lower(), content[4:8]
    if suffix == ".ort" or identifier == ORT_IDENTIFIER:
        raise ArtifactError(
            f"{where}: this is ONNX Runtime's .ort format, which only that runtime reads; "
            "give the .onnx file it was made from"
        )
    if suffix == ".onnx" and identifier == TFLITE_IDENTIFIER:
        raise ArtifactError(f"{where}: named .onnx, but its content is TFLite; rename it to .tflite")
    if suffix == ".tflite" or identifier == TFLITE_IDENTIFIER:
        return read_tflite(content, where=where)
    if suffix == ".onnx":
        return read_onnx(content, where=where)
    raise ArtifactError(
        f"{where}: expected a .tflite or .onnx file, found the suffix {suffix or 'none'!r} "
        "and no TFLite identifier; rename the file if it is an ONNX model"
    )
