"""TFLite -> ONNX bytes on the same integer grid, through tf2onnx and our passes.

The direct route (tf2onnx.convert.from_keras) folds the weights' fake quantization into float constants: the file
is as large as the float one and the trained per-channel scales are gone. So every ONNX file is made from the
TFLite file, whose integers it takes over.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from pathlib import Path

import onnx

from edgeship.core.errors import ExportError
from edgeship.export.onnx.float_form import with_float_layers
from edgeship.export.onnx.tf2onnx_call import from_tflite
from edgeship.export.onnx_passes import run_passes
from edgeship.export.onnx_passes.editing import producers, rename_tensor
from edgeship.export.onnx_passes.unshare import DEQUANTIZED as DEQUANTIZED_BY
from edgeship.export.tflite.for_onnx import with_matrix_products
from edgeship.export.tflite.names import DEQUANTIZED
from edgeship.graph import Graph, read_tflite

# tf2onnx's name of what becomes the TFLite tensor in the first group: of what QuantizeLinear reads, and of a Gemm.
RESULT = re.compile(r"(.+?)(?:/fully_connected|/products)?(?:_prequant|_prequant_Gemm__\d+:0|_Gemm__\d+:0)")


def convert_onnx(
    tflite: bytes, *, variant: str | None, layers: Collection[str] = (), keep_float: Collection[str] = ()
) -> bytes:
    """Convert a TFLite file made by `convert_tflite` to ONNX.

    Args:
        tflite: the file's bytes, float32 or int8.
        variant: None for a float file; "u8u8", "u8s8" or "s8s8" (activations, weights) for an integer file.
        layers: the names of the Keras model's layers, after which the file's tensors are named.
        keep_float: those whose operations are float in the TFLite file, and must be here.

    Returns:
        The file's bytes; the same TFLite bytes give the same ONNX bytes, in any process.

    Raises:
        ExportError: tf2onnx refused the file, or a pass found its promise broken.
    """
    model = onnx.load_from_string(_converted(tflite))
    model = run_passes(model, variant=variant)
    if keep_float:
        with_float_layers(model, layers=layers, keep_float=keep_float)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refused the exported model: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))


@functools.lru_cache(maxsize=1)
def _converted(tflite: bytes) -> bytes:
    """What the passes start from: the variants of one file share it, and tf2onnx takes the longest."""
    content = with_matrix_products(tflite)
    model = from_tflite(content)
    _name_merged(model, read_tflite(content, where=Path("model.tflite")))
    _name_results(model)
    return bytes(model.SerializeToString(deterministic=True))


def _name_merged(model: onnx.ModelProto, graph: Graph) -> None:
    """Name what tf2onnx made of equal constants (two biases of a shared layer) after the first of them.

    It merges the operations that dequantize them, and which of these is left is its own affair.
    """
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in graph.tensors.items():
        if tensor.data is not None and tensor.scales is not None and tensor.zero_points is not None:
            key = (
                tensor.dtype, tensor.data.shape, tensor.data.tobytes(), tensor.scales.tobytes(),
                tensor.zero_points.tobytes(), tensor.axis,
            )
            alike.setdefault(key, []).append(name + DEQUANTIZED_BY)
    readers = {node.name: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for names in alike.values():
        left = [name for name in names if name in readers]
        if len(left) == 1:
            readers[left[0]].name = names[0]


def _name_results(model: onnx.ModelProto) -> None:
    """Name what an operation computes after the TFLite tensor it becomes.

    tf2onnx calls it "x_prequant", and a Gemm, which it merges from two nodes, by a counter. A name is given once: equal
    biases are one constant in its graph, so that two layers may look like one.
    """
    taken = set(producers(model))
    for node in model.graph.node:
        named = RESULT.fullmatch(node.output[0])
        if named is not None:
            wanted = f"{named[1]}/{node.op_type}"
            if wanted not in taken:
                taken.add(wanted)
                rename_tensor(model, node.output[0], wanted)
        elif node.op_type == "DequantizeLinear" and node.output[0].endswith(DEQUANTIZED):
            integer = node.output[0].removesuffix(DEQUANTIZED)
            if node.input[0] != integer and integer not in taken:
                taken.add(integer)
                rename_tensor(model, node.input[0], integer)
