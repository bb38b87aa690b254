"""The call of tf2onnx: the same TFLite bytes give the same ONNX bytes, in any process.

By itself tf2onnx 1.17 goes through sets of nodes, whose order follows from addresses in memory, and through sets of
names, whose order follows from Python's hash seed. Which of two equal operations is left then, and what the result is
called, differs from process to process (three layers that read one tensor, as attention has them, are enough).
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from edgeship.core.errors import ExportError
from edgeship.core.native_output import quiet_native_output

# 18 and later turn MEAN into Transpose + ReduceMean, for which ONNX Runtime has no integer kernel.
OPSET = 17
# tf2onnx copies the graph for each of its twelve optimizers, several times over, to go on with the copy where one
# fails: half of its time. Where this variable is set it does not. (Its value is not read: `_convert_common` in
# tf2onnx/convert.py compares the variable's name in the value's place.)
CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"


def from_tflite(content: bytes) -> onnx.ModelProto:
    """Convert a TFLite file.

    Raises:
        ExportError: tf2onnx refused the file.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        with warnings.catch_warnings(), quiet_native_output(), _in_one_order():
            # tf2onnx still uses tf.lite.Interpreter, whose removal is announced; the toolchain is pinned.
            warnings.simplefilter("ignore")
            try:
                with _in_place():
                    return _convert(path)
            except Exception:  # noqa: BLE001 - what an optimizer raises may be anything; the copies do without it
                pass
            try:
                return _convert(path)
            except Exception as error:
                raise ExportError(f"tf2onnx refused the TFLite file: {error}") from error


def _convert(path: Path) -> onnx.ModelProto:
    import tf2onnx  # imports TensorFlow, seconds

    model: onnx.ModelProto = tf2onnx.convert.from_tflite(str(path), opset=OPSET)[0]
    return model


@contextlib.contextmanager
def _in_place() -> Iterator[None]:
    """Let tf2onnx optimize its graph without copies, and raise what goes wrong, until the block ends."""
    before = os.environ.get(CATCH_ERRORS)
    os.environ[CATCH_ERRORS] = "false"
    try:
        yield
    finally:
        del os.environ[CATCH_ERRORS]
        if before is not None:
            os.environ[CATCH_ERRORS] = before


@contextlib.contextmanager
def _in_one_order() -> Iterator[None]:
    """Let tf2onnx's graphs answer nodes in the order of their names, until the block ends."""
    from tf2onnx.graph import Graph

    real = {name: getattr(Graph, name) for name in ("extract_sub_graph_nodes", "find_output_consumers")}
    for name, method in real.items():
        setattr(Graph, name, _by_name(method))
    try:
        yield
    finally:
        for name, method in real.items():
            setattr(Graph, name, method)


def _by_name(method: Any) -> Any:
    def answer(graph: Any, *arguments: Any, **options: Any) -> list[Any]:
        return sorted(method(graph, *arguments, **options), key=lambda node: node.name)

    return answer
