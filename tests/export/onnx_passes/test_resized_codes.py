"""A linear Resize of an integer ONNX file rounds as LiteRT's integer kernel does, and keeps its tensor's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from edgeship.export.checks import check_onnx
from edgeship.export.onnx.convert import convert_onnx
from edgeship.graph import read_onnx
from edgeship.graph.differences import compare
from edgeship.graph.matching import match
from edgeship.model import flat_layers
from tests.support.networks import convert, quantized_model
from tests.support.two_files import codes_of, onnx_answers, tflite_answers

SIDES = (8, 12)
UP, RESIZED = layers.UpSampling2D, layers.Resizing
LINEAR = {"interpolation": "bilinear", "name": "resized"}
# Weights of a few bits: float32 and LiteRT's whole numbers hold the same sums.
EXACT = {
    "2": UP(2, **LINEAR), "4": UP(4, **LINEAR), "2 by 1": UP((2, 1), **LINEAR), "1 by 8": UP((1, 8), **LINEAR),
    "corners on corners": flat_layers.Resize((15, 23), "bilinear", align_corners=True, name="resized"),
    "as TensorFlow 1": flat_layers.Resize((16, 6), "bilinear", name="resized"),
    "half": RESIZED(4, 6, **LINEAR), "quarter": RESIZED(2, 3, **LINEAR), "up and down": RESIZED(16, 6, **LINEAR),
}
# LiteRT's weights have 11 bits: each is off by 2^-12 at most, which is 2 * 2^-12 * 255 = 0.125 steps of a result, so
# that it is rounded to one of the two codes beside it in both.
CLOSE = {
    "1.5": RESIZED(8, 18, **LINEAR),
    "3": UP(3, **LINEAR), "5 by 7": UP((5, 7), **LINEAR), "a third": RESIZED(3, 4, **LINEAR),
    "13 x 11": RESIZED(13, 11, **LINEAR), "7 x 31": RESIZED(7, 31, **LINEAR), "1 x 1": RESIZED(1, 1, **LINEAR),
}
MOVED = {
    "nearest as TensorFlow 1": flat_layers.Resize((16, 18), "nearest", name="resized"),
    "nearest": RESIZED(13, 5, interpolation="nearest", name="resized"), "nearest 2": UP(2, name="resized"),
}


def files_of(layer):
    """A network that begins and ends with what a layer makes, both files, and integers of which many are halves."""
    image = layers.Input((*SIDES, 3), name="image")
    moved = layer(image)
    model = tf_keras.Model(image, [moved, layers.Conv2D(2, 1, name="conv")(moved)], name="net")
    quantized, noise = quantized_model(model)
    content, graph = convert(quantized)
    return graph, content, codes_of(content, {"image": noise})


@pytest.mark.parametrize(("layer", "steps"), [
    *(pytest.param(layer, 0, id=name) for name, layer in {**EXACT, **MOVED}.items()),
    *(pytest.param(layer, 1, id=name) for name, layer in CLOSE.items()),
])
def test_both_runtimes_resize_alike_on_one_grid(layer, steps):
    graph, content, codes = files_of(layer.__class__.from_config(layer.get_config()))
    wanted = tflite_answers(content, codes)
    resized = next(name for name, values in wanted.items() if values.shape[-1] == 3)
    for variant, dtype in (("u8u8", "uint8"), ("s8s8", "int8")):
        onnx = convert_onnx(content, variant=variant)
        check_onnx(onnx, name="model.onnx", activations=dtype, weights=dtype)
        other = read_onnx(onnx, where=Path("model.onnx"))
        matching = match(graph, other)
        assert (compare(graph, other, matching).differences, matching.unmatched) == ((), ())
        assert all(other.tensors[name].scales is not None for name in (*other.inputs, *other.outputs))
        if variant == "u8u8":
            found = onnx_answers(onnx, codes)[resized]
            assert int(np.abs(found.astype(int) - wanted[resized].astype(int)).max()) <= steps


@pytest.mark.parametrize("layer", [
    UP(2, interpolation="bicubic", name="other"), RESIZED(9, 9, interpolation="lanczos3", name="other"),
    RESIZED(4, 4, crop_to_aspect_ratio=True, name="other"),
], ids=lambda layer: layer.name)
def test_what_neither_runtime_resizes_is_refused_by_name(layer):
    image = layers.Input((*SIDES, 3), name="image")
    with pytest.raises(Exception, match=r"other \((UpSampling2D|Resizing)\).*nearest.*bilinear"):
        quantized_model(tf_keras.Model(image, layers.Conv2D(2, 1)(layer(image))))
