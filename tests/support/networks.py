"""What the tests of quantization share: noise, random weights, closeness to float32 rounding, and running a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from edgeship.export.checks import check_tflite
from edgeship.export.tflite.convert import convert_tflite, layer_names, rounded_layers
from edgeship.export.tflite.float_layers import with_float_layers
from edgeship.graph import read_tflite
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.prepare import calibrate, finish
from edgeship.quantize.simplifying.rebuild import nodes_of

EPS = float(np.finfo(np.float32).eps)


def noise_for(model, *, count=4, seed=0):
    """Normal noise for every input: one array, or a list of them."""
    generator = np.random.default_rng(seed)
    arrays = [generator.normal(size=(count, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return arrays[0] if len(arrays) == 1 else arrays


def randomize(model, *, seed=1):
    """Weights that differ from one another, so that a swap would show; variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype.is_floating:
            sign = 1 if "variance" in weight.name else generator.choice([-1, 1], weight.shape)
            weight.assign(sign * generator.uniform(0.5, 1.5, weight.shape))
    return model


def assert_same_to_rounding(model, other, *, products):
    """Equal outputs of the same names, as far as float32 can tell.

    Args:
        products: the longest sum of products on the way. A sum of n is off by up to n units in the last place of its
            largest partial sum, which no tensor on the way is above by more than the scale of a batch norm (here below
            4); both networks round.
    """
    assert (other.input_names, other.output_names) == (model.input_names, model.output_names)
    noise = noise_for(model)
    tensors = [*model.inputs, *(tensor for node in nodes_of(model) for tensor in tf.nest.flatten(node.outputs))]
    magnitude = max(
        float(np.max(np.abs(values))) for values in tf.nest.flatten(tf_keras.Model(model.inputs, tensors)(noise))
    )
    for one, two in zip(tf.nest.flatten(model(noise)), tf.nest.flatten(other(noise)), strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=2 * products * 4 * EPS * magnitude)


def quantized_model(
    model, *, keep_float=(), span=(-4.0, 4.0), method="min-max", images=16, weight_bits=8, weight_scales="per-channel"
):
    """A model with fake quantization, calibrated on noise and finished, and that noise."""
    quantized = insert_fake_quantization(
        model, input_ranges=[span] * len(model.inputs), keep_float=keep_float, weight_bits=weight_bits,
        weight_scales=weight_scales,
    )
    noise = tf.nest.map_structure(lambda values: np.clip(values, *span), noise_for(model, count=images))
    calibrate(quantized, [noise], method=method)
    finish(quantized)
    return quantized, noise


def tflite_of(quantized, *, scheme="int8-ptq"):
    """The TFLite file of a finished model, its kept layers in float."""
    model, kept = quantized.model, quantized.account.kept_float
    content = convert_tflite(model, scheme=scheme)
    if not kept:
        return content
    return with_float_layers(
        content, convert_tflite(model), layers=layer_names(model), keep_float=kept, rounded=rounded_layers(model)
    )


def convert(quantized):
    """(the int8 TFLite file of a calibrated model, its graph), held against every promise of its scheme."""
    layers, kept = layer_names(quantized.model), quantized.account.kept_float
    content = tflite_of(quantized)
    check_tflite(content, name="model.tflite", scheme="int8-ptq", layers=layers, kept_float=kept)
    return content, read_tflite(content, where=Path("model.tflite"))


def run_tflite(content, inputs):
    """The real outputs of an int8 file on real inputs, one image at a time: a list, and each output's LSB."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    arrays = inputs if isinstance(inputs, list) else [inputs]
    results = []
    for images in zip(*arrays, strict=True):
        for image, detail in zip(images, interpreter.get_input_details(), strict=True):
            scale, zero_point = detail["quantization"]
            codes = np.clip(np.rint(image / np.float32(scale)) + zero_point, -128, 127)
            interpreter.set_tensor(detail["index"], codes[None].astype(np.int8))
        interpreter.invoke()
        results.append([
            (interpreter.get_tensor(detail["index"])[0].astype(np.float32) - detail["quantization"][1])
            * np.float32(detail["quantization"][0])
            for detail in interpreter.get_output_details()
        ])
    lsb = [detail["quantization"][0] for detail in interpreter.get_output_details()]
    return [np.stack(values) for values in zip(*results, strict=True)], lsb
