"""golden.npz: a few preprocessed inputs with the float model's outputs and each artifact's expected ones.

It travels with the bundle, so that any device can be held against these answers without Keras and without the
data set.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeship.core.artifact import TensorSpec
from edgeship.core.golden import EXPECTED_PREFIX, FLOAT_OUTPUTS, INPUTS, TEST_FLOAT_TOP1, numbered
from edgeship.core.integers import quantize
from edgeship.core.native_output import quiet_native_output
from edgeship.core.progress import track
from edgeship.data.examples import Batch, Examples
from edgeship.export.proof.runs import Job, run_files
from edgeship.graph import read_onnx
from edgeship.model.predict import predict_batch

Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


def float_outputs(model: tf_keras.Model, examples: Examples, *, label: str, batch_size: int = 128) -> Batch:
    """Return the float model's outputs on all examples, one array per output."""
    batches = track(examples.batches(batch_size), label=label, total=examples.number_of_batches(batch_size))
    answers = [tf.nest.flatten(predict_batch(model, list(batch))) for batch in batches]
    return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))


def golden_bytes(
    *, inputs: Batch, float_outputs: Batch, expected: Mapping[str, Batch], test_float_top1: np.ndarray | None = None
) -> bytes:
    """Return the .npz file's bytes; edgeship/core/golden.py says how its arrays are called.

    Args:
        inputs: as the model takes them, one array per input.
        float_outputs: the float model's outputs on them, one array per output.
        expected: artifact name -> its raw outputs on `inputs`, in its own dtypes.
        test_float_top1: of a classifier, the float model's class for every image of the test split `(n_test,)`, int64.
    """
    arrays: dict[str, Any] = {**numbered(INPUTS, inputs), **numbered(FLOAT_OUTPUTS, float_outputs)}
    if test_float_top1 is not None:
        arrays[TEST_FLOAT_TOP1] = test_float_top1.astype(np.int64)
    for name, outputs in expected.items():
        arrays |= numbered(EXPECTED_PREFIX + name, outputs)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def specs_of(content: bytes, *, format: str) -> Specs:
    """The input and output specs of a "tflite" or "onnx" file that was just exported."""
    return _tflite_specs(_interpreter(content)) if format == "tflite" else _onnx_specs(content)


def specs_and_outputs(
    content: bytes, *, format: str, inputs: Batch, specs: Specs | None = None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], Batch]:
    """Run a file that was just exported on `inputs`, one example at a time, in a child process.

    Args:
        inputs: as the model takes them, one array per input.
        specs: for a file that cannot tell its own ("ort").

    Returns:
        Its input specs, its output specs, and its raw outputs in their own dtypes, one array per output.
    """
    ins, outs = specs or specs_of(content, format=format)
    codes = tuple(quantize(array, spec) for array, spec in zip(inputs, ins, strict=True))
    (outputs,) = run_files([Job(name=f"model.{format}", content=content, format=format, inputs=codes)])
    return ins, outs, tuple(outputs)


def _interpreter(content: bytes) -> Interpreter:
    """Return an interpreter that is asked about tensors alone: a delegate may refuse the file, or crash on it."""
    with quiet_native_output():
        return Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )


def _tflite_specs(interpreter: Interpreter) -> Specs:
    entries, results = interpreter.get_input_details(), interpreter.get_output_details()
    return tuple(map(_tflite_spec, entries)), tuple(map(_tflite_spec, results))


def _tflite_spec(details: dict) -> TensorSpec:
    scale, zero_point = details["quantization"]
    integer = scale > 0  # a tensor without a grid has 0: floats, and integers that are numbers themselves
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
