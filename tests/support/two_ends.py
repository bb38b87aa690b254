"""One small network of two inputs (a picture and two words) and two outputs (scores and a map), as every kind of file.

    scores = relu(flatten(picture) W) + the sum of the words' vectors        (1, 4)
    map = the picture's channels, added up                                   (1, 5, 6)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

PICTURE, WORDS, SCORES, MAP = (1, 5, 6, 2), (1, 2), (1, 4), (1, 5, 6)
VOCABULARY = 7
GENERATOR = np.random.default_rng(5)
WEIGHTS = GENERATOR.normal(size=(60, 4)).astype(np.float32)
VECTORS = GENERATOR.normal(size=(VOCABULARY, 4)).astype(np.float32)


def examples(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures, float32 (count, 5, 6, 2), and words, int32 (count, 2)."""
    generator = np.random.default_rng(seed)
    pictures = generator.uniform(-1, 1, (count, *PICTURE[1:])).astype(np.float32)
    return pictures, generator.integers(0, VOCABULARY, (count, *WORDS[1:])).astype(np.int32)


def expected(pictures: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores and the maps."""
    products = np.maximum(pictures.reshape(len(pictures), -1) @ WEIGHTS, 0)
    return products + VECTORS[words].sum(axis=1), pictures.sum(axis=3)


def tflite_file(*, integers: bool = False) -> bytes:
    """Return the network as TFLite, in floats or with an int8 picture and int8 outputs.

    The file's own order is picture, words and scores, map; the signature's is the alphabet's.
    """
    def compute(z_picture: Any, a_words: Any) -> dict[str, Any]:
        products = tf.nn.relu(tf.reshape(z_picture, (1, -1)) @ WEIGHTS)
        vectors = tf.reduce_sum(tf.gather(VECTORS, a_words), axis=1)
        return {"z_scores": products + vectors, "a_map": tf.reduce_sum(z_picture, axis=3)}

    module = tf.Module()
    module.compute = tf.function(compute)
    function = module.compute.get_concrete_function(
        tf.TensorSpec(PICTURE, tf.float32, name="z_picture"), tf.TensorSpec(WORDS, tf.int32, name="a_words")
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if integers:
        samples = examples(20)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {"z_picture": picture[None], "a_words": words[None]} for picture, words in zip(*samples, strict=True)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return _in_order(converter.convert())


def _in_order(content: bytes) -> bytes:
    """Return the file with its inputs and outputs in the network's order, whatever the signature's is."""
    import flatbuffers

    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, signature = file.subgraphs[0], file.signatureDefs[0]
    for end, maps, first in (("inputs", signature.inputs, PICTURE), ("outputs", signature.outputs, SCORES)):
        indices = [item.tensorIndex for item in maps]
        setattr(graph, end, sorted(indices, key=lambda index: tuple(graph.tensors[index].shape) != first))
    builder = flatbuffers.Builder()
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def onnx_file() -> bytes:
    """Return the network as ONNX, in floats."""
    constants = {
        "W": WEIGHTS, "V": VECTORS, "flat": np.array([1, -1]), "words_axis": np.array([1]), "channels": np.array([3]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["picture", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "W"], ["product"]), helper.make_node("Relu", ["product"], ["clipped"]),
            helper.make_node("Gather", ["V", "words"], ["vectors"]),
            helper.make_node("ReduceSum", ["vectors", "words_axis"], ["sum"], keepdims=0),
            helper.make_node("Add", ["clipped", "sum"], ["scores"]),
            helper.make_node("ReduceSum", ["picture", "channels"], ["map"], keepdims=0),
        ],
        "two_ends",
        [
            helper.make_tensor_value_info("picture", TensorProto.FLOAT, PICTURE),
            helper.make_tensor_value_info("words", TensorProto.INT32, WORDS),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, SCORES),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, MAP),
        ],
        initializer=[numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content
