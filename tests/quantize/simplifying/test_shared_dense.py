"""A dense layer that is called several times has one kernel in both files, rounded as it was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import tf_keras
from tf_keras import layers

from edgeship.export.tflite.convert import layer_names
from edgeship.export.weights.rounded_weights import check_against_keras
from edgeship.graph import read_onnx
from edgeship.graph.differences import compare
from edgeship.graph.matching import match
from edgeship.quantize.simplifying.simplify import simplify
from tests.support.networks import assert_same_to_rounding, convert, quantized_model, randomize
from tests.support.two_files import codes_of, largest_difference, onnx_answers, onnx_of, tflite_answers

SHAPE = (4, 4, 8)


def of_two_pools(image, *, keepdims=False, **options):
    """A gate over channels: one perceptron for the mean and for the maximum."""
    first, second = layers.Dense(4, activation="relu", name="first"), layers.Dense(8, name="second", **options)
    pools = layers.GlobalAveragePooling2D(keepdims=keepdims), layers.GlobalMaxPooling2D(keepdims=keepdims)
    return layers.Add(name="sum")([second(first(pool(image))) for pool in pools])


def of_rows(image):
    shared, rows = layers.Dense(5, name="shared"), layers.Reshape((16, 8))(image)
    return layers.Add(name="sum")([shared(rows), shared(layers.ReLU()(rows))])


def of_several_sizes(image):
    shared = layers.Dense(3, activation="sigmoid", name="shared")
    vector = layers.GlobalAveragePooling2D()(image)
    return layers.Add(name="sum")([layers.GlobalAveragePooling2D()(shared(image)), shared(vector)])


BUILDS = {
    "vectors": of_two_pools, "images": lambda image: of_two_pools(image, keepdims=True), "rows": of_rows,
    "softmax": lambda image: of_two_pools(image, activation="softmax"), "several sizes": of_several_sizes,
    "no bias": lambda image: of_two_pools(image, use_bias=False),
}


def model_of(build):
    tf_keras.utils.set_random_seed(0)
    image = layers.Input(SHAPE, name="image")
    return tf_keras.Model(image, build(image), name="net")


@pytest.mark.parametrize("name", BUILDS)
def test_it_is_the_same_network(name):
    model = randomize(model_of(BUILDS[name]))
    simple = simplify(model)
    assert layers.Dense not in {type(layer) for layer in simple.layers}
    assert_same_to_rounding(model, simple, products=16 * 8 * 4)
    assert sum(weight.shape.num_elements() for weight in simple.weights) == sum(
        weight.shape.num_elements() for weight in model.weights
    )


@pytest.mark.parametrize("name", ["vectors", "images", "rows"])
def test_its_kernel_is_as_it_was_trained_in_both_files(name):
    quantized, noise = quantized_model(model_of(BUILDS[name]))
    content, graph = convert(quantized)
    check_against_keras(content, quantized.model, name="model.tflite", layers=layer_names(quantized.model))
    onnx, codes = onnx_of(content), codes_of(content, {"image": noise})
    other = read_onnx(onnx, where=Path("model.onnx"))
    assert compare(graph, other, match(graph, other)).differences == ()
    assert largest_difference(onnx_answers(onnx, codes), tflite_answers(content, codes)) <= 2
