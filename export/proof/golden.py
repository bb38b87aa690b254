"""golden.npz: a few preprocessed inputs with the float model's outputs and each artifact's expected ones.

It travels with the bundle, so that any device can be held against these answers without Keras and without the
data set.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from edgeship.core.artifact import Preprocessing, TensorSpec
from edgeship.core.integers import quantize
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import track
from edgeship.data import Images, preprocessed_batches
from edgeship.export.proof.runs import Job, run_files
from edgeship.graph import read_onnx

Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


def float_probabilities(
    model: tf_keras.Model, images: Images, *, spec: Preprocessing, batch_size: int = 128
) -> np.ndarray:
    """The float model's outputs `(n, classes)`, float32, on preprocessed `images`."""
    batches = preprocessed_batches(images, spec, size=batch_size)
    total = math.ceil(len(images) / batch_size)
    return np.concatenate([
        model.predict_on_batch(batch)
        for batch in track(batches, label="float Keras on the test split", total=total)
    ])


def golden_bytes(
    *, inputs: np.ndarray, float_outputs: np.ndarray, test_float_top1: np.ndarray, expected: dict[str, np.ndarray]
) -> bytes:
    """The .npz file's bytes.

    Args:
        inputs: preprocessed images `(n, h, w, c)`, float32.
        float_outputs: the float model's outputs on them `(n, classes)`, float32.
        test_float_top1: the float model's class for every image of the test split `(n_test,)`, int64.
        expected: artifact name -> its raw outputs on `inputs`, in its own dtype.
    """
    arrays: dict[str, Any] = {
        "inputs": inputs, "float_outputs": float_outputs, "test_float_top1": test_float_top1.astype(np.int64),
        **{f"expected/{name}": outputs for name, outputs in expected.items()},
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def specs_of(content: bytes, *, format: str) -> Specs:
    """The input and output specs of a "tflite" or "onnx" file that was just exported."""
    return _tflite_specs(_interpreter(content)) if format == "tflite" else _onnx_specs(content)


def specs_and_outputs(
    content: bytes, *, format: str, inputs: np.ndarray, specs: Specs | None = None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], np.ndarray]:
    """Run a file that was just exported on `inputs`, one image at a time, in a child process.

    Args:
        specs: for a file that cannot tell its own ("ort").

    Returns:
        Its input specs, its output specs, and its raw outputs `(n, classes)` in its own dtype.
    """
    ins, outs = specs or specs_of(content, format=format)
    codes = quantize(inputs, ins[0])
    ((outputs,),) = run_files([Job(name=f"model.{format}", content=content, format=format, inputs=codes)])
    return ins, outs, outputs


def _interpreter(content: bytes) -> Interpreter:
    with quiet_native_output():
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
    return interpreter


def _tflite_specs(interpreter: Interpreter) -> Specs:
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    return (_tflite_spec(entry),), (_tflite_spec(result),)


def _tflite_spec(details: dict) -> TensorSpec:
    scale, zero_point = details["quantization"]
    integer = np.dtype(details["dtype"]).kind in "iu"
    return TensorSpec(
        name=details["name"], shape=tuple(int(size) for size in details["shape"]),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) if integer else None, zero_point=int(zero_point) if integer else None,
    )


def _onnx_specs(content: bytes) -> Specs:
    graph = read_onnx(content, where=Path("model.onnx"))
    inputs, outputs = (
        tuple(
            TensorSpec(
                name=tensor.name, shape=tuple(int(size or 1) for size in tensor.shape or ()), dtype=tensor.dtype,
                scale=None if tensor.scales is None else float(tensor.scales[0]),
                zero_point=None if tensor.zero_points is None else int(tensor.zero_points[0]),
            )
            for tensor in (graph.tensors[name] for name in names)
        )
        for names in (graph.inputs, graph.outputs)
    )
    return inputs, outputs
