"""Where a file that answers wrong goes wrong: the first of its tensors that is not what the Keras layer computes.

Tensors are named after layers (`export/tflite/names.py`), in both formats. An operation may have taken over what
follows its layer (a batch norm, a ReLU), so its result is held against each layer of that chain and the nearest counts.
Values are compared in sorted order, which no layout changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.core.integers import sqnr_db
from edgeship.data.examples import Batch
from edgeship.export.proof.runs import Job, run_files
from edgeship.graph import Graph, graph_from_bytes

IMAGES = 2
CHAIN = 4  # convolution, batch norm, activation, rounding
# Noise of a tenth of the signal: a healthy 8-bit tensor has 30 dB and more, one that is computed in float 90.
BAD_DB = {True: 20.0, False: 60.0}


def first_bad_layer(job: Job, model: tf_keras.Model, inputs: Batch) -> str | None:
    """The layer of the file's first result that differs; None where no tensor tells.

    Args:
        job: the file and its inputs, in its own dtype.
        model: the Keras model it must compute the same as.
        inputs: the same inputs as the Keras model takes them, one array per input.
    """
    if job.format not in ("tflite", "onnx"):
        return None
    graph = graph_from_bytes(job.content, where=Path(f"model.{job.format}"))
    chains = {layer.name: list(_chain(model, layer)) for layer in model.layers if layer.inbound_nodes}
    made = [name for operation in graph.operations for name in operation.outputs if name in chains]
    if not made:
        return None
    keras = tf_keras.Model(model.inputs, {name: chains[name] for name in made})
    wanted = keras([tf.constant(array[:IMAGES]) for array in inputs], training=False)
    answers, = run_files([Job(
        name=job.name, content=job.content, format=job.format,
        inputs=tuple(array[:IMAGES] for array in job.inputs), tensors=tuple(made),
    )])
    for name, found in zip(made, answers, strict=True):
        values, integer = _real(graph, name, found)
        alike = [np.asarray(item) for item in wanted[name] if item.shape.num_elements() == values.size]
        nearest = max((_sorted_db(item, values) for item in alike), default=float("inf"))
        if nearest < BAD_DB[integer]:
            return name
    return None


def _chain(model: tf_keras.Model, layer: tf_keras.layers.Layer) -> Iterator[tf.Tensor]:
    """A layer's result, and those of the layers behind it, as long as one layer reads one."""
    inside = {id(item) for item in model.layers}
    for _ in range(CHAIN):
        yield layer.get_output_at(0)
        readers = [node.layer for node in layer.outbound_nodes if id(node.layer) in inside]
        if len(readers) != 1:
            return
        layer = readers[0]


def _real(graph: Graph, name: str, values: np.ndarray) -> tuple[np.ndarray, bool]:
    tensor = graph.tensors[name]
    if tensor.scales is None or tensor.zero_points is None:
        return values, False
    return (values.astype(np.float32) - tensor.zero_points[0]) * tensor.scales[0], True


def _sorted_db(expected: np.ndarray, found: np.ndarray) -> float:
    db = sqnr_db(np.sort(expected, axis=None), np.sort(found, axis=None))
    return float("inf") if db is None else db
