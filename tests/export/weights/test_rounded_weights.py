"""A stored weight that is not the nearest one on its grid is an error that names its layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tf_keras import Model, layers

from edgeship.core.errors import ExportError
from edgeship.export.tflite.convert import convert_tflite, layer_names
from edgeship.export.tflite.names import pack
from edgeship.export.weights.rounded_weights import check_against_floats, check_against_keras
from edgeship.export.weights.tflite import with_float16_weights, with_int8_weights
from tests.support.networks import quantized_model


def network() -> Model:
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", bias_initializer="random_normal", name="conv")(image)
    x = layers.DepthwiseConv2D(3, bias_initializer="random_normal", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Model(image, layers.Dense(4, bias_initializer="random_normal", activation="softmax", name="head")(x))


def changed(content: bytes, tensor: str, dtype: type, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    found = next(item for item in file.subgraphs[0].tensors if item.name.decode() == tensor)
    values = np.frombuffer(bytes(file.buffers[found.buffer].data), dtype)
    file.buffers[found.buffer].data = np.frombuffer(change(values).astype(dtype).tobytes(), np.uint8)
    return pack(file)


@pytest.mark.parametrize(("tensor", "dtype"), [
    ("conv/kernel", np.int8), ("depthwise/kernel", np.int8), ("head/kernel", np.int8), ("conv/bias", np.int32),
    ("head/bias", np.int32),
])
def test_the_int8_file_is_held_against_the_keras_model(tensor: str, dtype: type) -> None:
    quantized, _ = quantized_model(network())
    content, names = convert_tflite(quantized.model, scheme="int8-ptq"), layer_names(quantized.model)
    check_against_keras(content, quantized.model, name="a.tflite", layers=names)
    # Every code one lower, where there is a lower one: what was rounded down by up to half a step is now too low.
    least = -127 if dtype is np.int8 else -(2**31)
    wrong = changed(content, tensor, dtype, lambda codes: np.maximum(codes.astype(np.int64) - 1, least))
    with pytest.raises(ExportError, match=rf"^a\.tflite: expected every weight within half a step .* in {tensor}$"):
        check_against_keras(wrong, quantized.model, name="a.tflite", layers=names)


def test_the_small_files_are_held_against_the_float_file() -> None:
    model = network()
    floats, names = convert_tflite(model), layer_names(model)
    stored = with_int8_weights(floats, layers=names, keep_float=(), dynamic=False)
    check_against_floats(stored, floats, name="a.tflite")
    kernels = [item.name.decode() for item in schema.ModelT.InitFromPackedBuf(stored, 0).subgraphs[0].tensors
               if item.type == schema.TensorType.INT8]
    for kernel in kernels:
        wrong = changed(stored, kernel, np.int8, lambda codes: np.maximum(codes.astype(int) - 1, -127))
        with pytest.raises(ExportError, match=r"expected every weight within half a step of the float one"):
            check_against_floats(wrong, floats, name="a.tflite")
    half = with_float16_weights(floats, layers=names)
    check_against_floats(half, floats, name="a.tflite")
    halves = [item.name.decode() for item in schema.ModelT.InitFromPackedBuf(half, 0).subgraphs[0].tensors
              if item.type == schema.TensorType.FLOAT16]
    assert kernels and halves
    for kernel in halves:
        # The next number of float16 below.
        wrong = changed(half, kernel, np.float16, lambda values: np.nextafter(values, np.float16(-np.inf)))
        with pytest.raises(ExportError, match="expected every weight"):
            check_against_floats(wrong, floats, name="a.tflite")
