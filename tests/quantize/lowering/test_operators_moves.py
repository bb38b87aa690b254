"""Operators that move values to constant places: the same integers in both files, wherever they stand in a network."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from edgeship.core.errors import LoweringError
from edgeship.model import flat_layers
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import convert, noise_for, quantized_model, randomize
from tests.support.two_files import (
    codes_of,
    largest_difference,
    layer_differences,
    onnx_answers,
    onnx_of,
    tflite_answers,
)

IMAGE, ROWS, VECTOR = (6, 4, 8), (6, 4), (12,)
MIXED = [5, 0, 4, 1, 7, 2, 6, 3]  # no few slices take these

OF_IMAGES = {
    "tiled": lambda x: tf.tile(x, [1, 2, 1, 3]), "tiled rows": lambda x: tf.tile(x, [1, 6, 1, 1]),
    "repeated": lambda x: tf.repeat(x, 2, axis=2), "repeated each": lambda x: tf.repeat(x, [2, 0, 1, 3], axis=-2),
    "rolled": lambda x: tf.roll(x, 2, 1), "rolled both": lambda x: tf.roll(x, shift=[-1, 5], axis=[1, 2]),
    "rolled twice": lambda x: tf.roll(x, shift=(1, 1), axis=(-1, -1)),
    "rolled round": lambda x: tf.roll(x, [6, 3], [1, 2]),
    "reversed": lambda x: tf.reverse(x, [1]), "reversed both": lambda x: tf.reverse(x, axis=[-1, 2]),
    "shuffled": lambda x: tf.gather(x, [0, 4, 1, 5, 2, 6, 3, 7], axis=-1),
    "mixed": lambda x: tf.gather(x, MIXED, axis=3), "mixed rows": lambda x: tf.gather(x, MIXED[1:3] * 3, axis=1),
    "picked": lambda x: tf.gather(x, 2, axis=1),
    "picked in pairs": lambda x: tf.gather(x, [[7, 0], [1, 1]], axis=3),
    "masked": lambda x: tf.boolean_mask(x, [True, False, True, True, False, True], axis=1),
    "spread": lambda x: tf.broadcast_to(x[:, :1], tf.shape(x)),
    "spread over the image": lambda x: tf.broadcast_to(x[:, 2:3, 1:2], [tf.shape(x)[0], 6, 4, 8]),
    "transposed": lambda x: tf.linalg.matrix_transpose(x), "patches": lambda x: tf.image.extract_patches(
        x, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID"
    ),
    "mirrored": lambda x: tf.image.flip_left_right(x), "upside down": lambda x: tf.image.flip_up_down(x[:, 1:]),
    "turned": lambda x: tf.image.rot90(x), "turned twice": lambda x: tf.image.rot90(x, 2),
    "turned back": lambda x: tf.image.rot90(x, k=-1), "cut out": lambda x: tf.image.crop_to_bounding_box(x, 1, 0, 3, 2),
    "framed": lambda x: tf.image.pad_to_bounding_box(x, 1, 2, 8, 9),
}
OF_ROWS = {
    "tiled": lambda x: tf.tile(x, [1, 3, 1]), "rolled": lambda x: tf.roll(x, -2, axis=1),
    "reversed": lambda x: tf.reverse(x, [1]), "mixed": lambda x: tf.gather(x, [5, 1, 3, 0, 2, 4, 0, 0, 0], axis=1),
    "stacked": lambda x: tf.stack([x, x[:, ::-1]], axis=-1),
    "spread": lambda x: tf.broadcast_to(x[..., :1], [4, 6, 5]),
    "transposed": lambda x: tf.linalg.matrix_transpose(x),
}
OF_VECTORS = {
    "tiled": lambda x: tf.tile(x, [1, 2]), "rolled": lambda x: tf.roll(x, 1, -1),
    "repeated": lambda x: tf.repeat(x, 3, 1),
    "mixed": lambda x: tf.gather(x, [*MIXED, 11, 9], axis=1), "repeated as rows": lambda x: layers.RepeatVector(7)(x),
    "repeated twice": lambda x: layers.RepeatVector(2)(x), "once": lambda x: layers.RepeatVector(1)(x),
}


def of(function, name="own"):
    return layers.Lambda(function, name=name)


@pytest.mark.parametrize(("shape", "moves"), [(IMAGE, OF_IMAGES), (ROWS, OF_ROWS), (VECTOR, OF_VECTORS)])
def test_every_move_is_bit_equal_in_float_and_in_both_files(shape, moves):
    image = layers.Input(shape, batch_size=4 if shape is ROWS else None, name="image")
    outputs = [
        layers.Activation("linear", name=f"move{place}")(of(move, f"own{place}")(image))
        for place, move in enumerate(moves.values())
    ]
    model = tf_keras.Model(image, outputs, name="model")
    flat, noise = lower(model), noise_for(model)
    for name, one, other in zip(moves, model(noise), flat(noise), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    quantized, noise = quantized_model(flat, images=4)
    content, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    codes = codes_of(content, {"image": noise})
    answers = tflite_answers(content, codes)
    for place, name in enumerate(moves):
        if name == "framed":  # with the code of zero, which the function does not know
            continue
        moved = model.get_layer(f"own{place}")(codes["image"].astype(np.float32))
        np.testing.assert_array_equal(answers[f"move{place}"], moved, err_msg=name)
    assert largest_difference(onnx_answers(onnx_of(content), codes), answers) == 0


def shifted_blocks(x):
    """A convolution on an image that is rolled and rolled back, as in networks of shifted windows."""
    y = layers.Conv2D(8, 3, padding="same", name="first")(x)
    z = of(lambda t: tf.roll(t, [-1, -2], [1, 2]), "shift")(y)
    z = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(z)
    return layers.Add(name="sum")([y, of(lambda t: tf.roll(t, [1, 2], [1, 2]), "back")(z)])


def both_directions(x):
    """A sequence and its reverse, each with a convolution of its own."""
    backwards = of(lambda t: tf.reverse(t, [1]), "turned")(x)
    y = [layers.Conv1D(6, 3, padding="causal", name=name)(t) for name, t in (("there", x), ("back", backwards))]
    both = layers.Concatenate(name="both")([y[0], of(lambda t: t[:, ::-1], "again")(y[1])])
    return layers.Conv1D(4, 1, name="last")(both)


def decoder(x):
    """A vector for every step of a sequence, and a mixed one beside it."""
    y = layers.Dense(6, activation="relu", name="code")(x)
    y = layers.Conv1D(8, 3, padding="same", name="steps")(layers.RepeatVector(9, name="repeat")(y))
    return of(lambda t: tf.gather(t, MIXED, axis=2), "mixed")(y)


def excited(x):
    """A factor for each channel, spread over the image by hand."""
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    gate = layers.Dense(8, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    return layers.Multiply(name="product")([y, of(lambda t: tf.tile(t, [1, 6, 4, 1]), "spread")(gate)])


def mirrored_sum(x):
    """An image and the same turned over: values meet values of another place."""
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(layers.ZeroPadding2D(((0, 0), (1, 1)))(x))
    return layers.Conv2D(4, 3, name="last")(layers.Add(name="sum")([y, of(lambda t: tf.transpose(t, [0, 2, 1, 3]))(y)]))


@pytest.mark.parametrize(("network", "shape"), [
    (shifted_blocks, IMAGE), (both_directions, ROWS), (decoder, VECTOR), (excited, IMAGE), (mirrored_sum, IMAGE),
], ids=lambda item: getattr(item, "__name__", None))
def test_layers_before_and_behind_a_move_stay_integers(network, shape, tmp_path):
    image = layers.Input(shape, name="image")
    model = randomize(tf_keras.Model(image, network(image), name="model"))
    flat = lower(model)
    np.testing.assert_array_equal(flat(noise_for(model)), model(noise_for(model)))
    quantized, noise = quantized_model(flat)
    content, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    onnx, codes = onnx_of(content), codes_of(content, {"image": noise})
    answers = tflite_answers(content, codes)
    # One step where a product or a sum is rounded otherwise; an ADD or a MUL behind it may round once more.
    assert largest_difference(onnx_answers(onnx, codes), answers) <= 2
    layers_found, untold = layer_differences(content, onnx, codes, tmp_path)
    assert max(layers_found.values()) <= 1 and not untold


def test_a_lowered_move_is_saved_and_loaded(tmp_path):
    image = layers.Input(IMAGE, name="image")
    flat = lower(tf_keras.Model(image, of(lambda x: tf.gather(tf.roll(x, 1, 1), MIXED, axis=3))(image)))
    assert [type(layer) for layer in flat.layers[1:]] == [flat_layers.Take] * 2
    flat.save(tmp_path / "flat.keras")
    loaded, noise = tf_keras.models.load_model(tmp_path / "flat.keras", compile=False), noise_for(flat)
    np.testing.assert_array_equal(loaded(noise), flat(noise))


@pytest.mark.parametrize(("function", "operation"), [
    (lambda x: tf.roll(x, 1, 0), "roll"), (lambda x: tf.reverse(x, [0, 1]), "reverse"),
    (lambda x: tf.tile(x, [2, 1, 1, 1]), "tile"), (lambda x: tf.gather(x, [0, 0]), "gather"),
    (lambda x: tf.repeat(x, 2, axis=0), "repeat"), (lambda x: tf.repeat(x, 2), "repeat"),
    (lambda x: tf.boolean_mask(x, [True]), "boolean_mask"),
])
def test_a_move_along_the_batch_is_refused(function, operation):
    image = layers.Input(IMAGE, batch_size=1, name="image")
    with pytest.raises(LoweringError, match=rf"^own: tf\.{operation} works along the batch.*along another axis$"):
        lower(tf_keras.Model(image, of(function)(image)))


@pytest.mark.parametrize(("function", "operation"), [
    (lambda x: tf.gather(x, tf.argmax(x[:, 0, 0], axis=1), axis=1), "gather"),
    (lambda x: tf.gather(x, tf.argsort(x[:, :, 0, 0]), axis=1, batch_dims=1), "gather"),
    (lambda x: tf.roll(x, tf.cast(x[0, 0, 0, 0], tf.int32), 1), "roll"),
])
def test_places_that_the_network_computes_are_refused(function, operation):
    image = layers.Input(IMAGE, name="image")
    flat = lower(tf_keras.Model(image, of(function)(image)))
    expected = rf"own_{operation} \(tf\.{operation}\): expected constant places, found some that the network computes"
    with pytest.raises(LoweringError, match=expected):
        insert_fake_quantization(flat, input_ranges=[None])
