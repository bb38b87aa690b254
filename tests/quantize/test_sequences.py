"""Networks of sequences, vectors and pictures of any shape: from a float Keras model to two files of integers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.networks.sequences import SEQUENCES, build
from edgeship.quantize.insert import weighted_layers
from edgeship.quantize.lowering.lower import lower
from tests.support.networks import convert, quantized_model, run_tflite
from tests.support.two_files import codes_of, layer_differences, onnx_of

COMPARED = 8


def files_of(quantized):
    """(TFLite file, its graph, ONNX file), both of integers alone."""
    tflite, graph = convert(quantized)
    assert {tensor.dtype for tensor in graph.tensors.values()} <= {"int8", "int32"}
    return tflite, graph, onnx_of(tflite)


def assert_layers_agree(tflite, onnx, codes, folder):
    """One rounding of a half apart at the most, every layer that can be cut out compared."""
    differences, skipped = layer_differences(tflite, onnx, codes, folder)
    assert not skipped
    assert max(differences.values()) <= 1, differences


def assert_computes(quantized, tflite, noise):
    """The file answers what the Keras model with fake quantization answers, and not one number for everything."""
    found, steps = run_tflite(tflite, noise)
    for values, one, step in zip(tf.nest.flatten(quantized.model(noise)), found, steps, strict=True):
        # One step where Keras and the kernels round a half differently, and some more behind each of ten layers.
        np.testing.assert_allclose(one, values, rtol=0, atol=4.01 * step)
        assert np.std(one) > 8 * step


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_network_of_sequences_becomes_two_integer_files_that_agree(name, tmp_path):
    flat = lower(build(name))
    quantized, noise = quantized_model(flat)
    assert quantized.account.quantized == weighted_layers(flat)
    assert not quantized.account.added
    tflite, graph, onnx = files_of(quantized)
    # A chain of layers of sequences is reshaped at its ends.
    assert sum(operation.kind == "RESHAPE" for operation in graph.operations) <= 2
    codes = codes_of(tflite, {flat.input_names[0]: noise[:COMPARED]})
    assert_layers_agree(tflite, onnx, codes, tmp_path)
    assert_computes(quantized, tflite, noise[:COMPARED])
