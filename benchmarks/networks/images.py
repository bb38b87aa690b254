"""Images for the families, and weights with which their answers mean something."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

CLASSES = 10
BATCH_PIXELS = 2**20  # 20 images of 224x224


def fit(model: tf_keras.Model) -> None:
    """Give a model of random weights batch norms that fit them, and answers that tell the images apart."""
    generator = np.random.default_rng(0)
    for layer in (item for item in model._flatten_layers() if isinstance(item, layers.BatchNormalization)):
        layer.momentum = 0.0  # the last batch's statistics
        for weight in (layer.gamma, layer.beta):
            if weight is not None:
                weight.assign(weight + generator.normal(0, 0.2, weight.shape))
    model(inputs_of(model, 40, seed=1), training=True)
    _fit_heads(model)


def _fit_heads(model: tf_keras.Model) -> None:
    """Give every softmax the weights that tell the kinds of images apart: ridge regression on random features.

    With random weights there, the answers of a deep network would hang on single steps of rounding.
    """
    heads, last = [], None
    for layer in model.layers:
        last = layer if hasattr(layer, "kernel") else last
        if getattr(layer, "activation", None) is tf_keras.activations.softmax:
            heads.append(layer if layer.weights else last)
    images = inputs_of(model, 20 * CLASSES, seed=2)
    for head in heads:
        features = outputs_of(tf_keras.Model(model.inputs, head.input), images)
        features = features.reshape(-1, features.shape[-1]).astype(np.float64)
        kernel, bias = head.get_weights()
        wanted = np.eye(bias.size)[answers_of(head.output.shape, images).reshape(-1)]
        mean = features.mean(0)
        centered = features - mean
        spread = centered.T @ centered
        solved = np.linalg.solve(spread + 1e-2 * np.trace(spread) / len(mean) * np.eye(len(mean)), centered.T @ wanted)
        solved *= 8  # one kind is then some e^8 times as probable as another
        head.set_weights([solved.reshape(kernel.shape), 8 * wanted.mean(0) - mean @ solved])


def outputs_of(model: tf_keras.Model, images: np.ndarray | list[np.ndarray]) -> Any:
    """Return a model's outputs on images, in its own structure.

    `predict` traces a function for every model, which takes longer than the small families take to compute.
    """
    height, width = model.inputs[0].shape[1:3]
    batch = max(1, BATCH_PIXELS // (height * width))
    count = len(tf.nest.flatten(images)[0])
    parts = [
        model(tf.nest.map_structure(lambda array, start=start: array[start : start + batch], images), training=False)
        for start in range(0, count, batch)
    ]
    return tf.nest.map_structure(lambda *tensors: np.concatenate(tensors), *parts)


def kinds_of(count: int) -> np.ndarray:
    """Which of the 10 kinds each of the images `inputs_of` gives is of."""
    return np.arange(count) % CLASSES


def answers_of(shape: tf.TensorShape, images: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """The right answers (images, positions) of an output: the image's kind, or at many positions the brightness there.

    Args:
        shape: the output's, `(None, classes)` or `(None, height, width, classes)`.
    """
    first = images[0] if isinstance(images, list) else images
    positions, classes = int(np.prod(shape[1:-1])), shape[-1]
    if positions == 1:
        return kinds_of(len(first)).reshape(-1, 1) % classes
    bright = tf.image.resize(first.mean(-1, keepdims=True), shape[1:3]).numpy() / first.max()
    return np.clip(classes * bright, 0, classes - 1).astype(int).reshape(-1, positions)


def largest_pixel(model: tf_keras.Model) -> float:
    """255 for a network that scales its images itself, as some of Keras' own do; 1 for all others."""
    scales = {node.layer.__class__ for tensor in model.inputs for node in tensor.node.layer.outbound_nodes}
    return 255.0 if layers.Rescaling in scales else 1.0


def inputs_of(model: tf_keras.Model, count: int, *, seed: int) -> np.ndarray | list[np.ndarray]:
    """Images in 0...`largest_pixel` of 10 kinds, each a pattern of blobs with other contrast and noise in every image.

    One array, or a list of one for each input, with the same kind of image at the same place.
    """
    generator = np.random.default_rng(seed)
    arrays = []
    for position, tensor in enumerate(model.inputs):
        height, width, channels = tensor.shape[1:]
        patterns = [_pattern((height, width, channels), kind=kind, position=position) for kind in range(CLASSES)]
        images = []
        for kind in kinds_of(count):
            noise = generator.normal(0, generator.uniform(0, 0.1), patterns[kind].shape)
            images.append(np.clip(0.5 + generator.uniform(0.6, 1.2) * (patterns[kind] - 0.5) + noise, 0, 1))
        arrays.append((largest_pixel(model) * np.stack(images)).astype(np.float32))
    return arrays[0] if len(arrays) == 1 else arrays


def _pattern(shape: tuple[int, int, int], *, kind: int, position: int) -> np.ndarray:
    """Return the blobs that all images of a kind have in common at an input."""
    grid = 2 + kind % 5
    blobs = np.random.default_rng([kind, position]).random((grid, grid, shape[-1]), np.float32)
    pattern: np.ndarray = tf.image.resize(blobs, shape[:2]).numpy()
    return pattern
