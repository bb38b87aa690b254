"""Weights of which no two neighbours can saturate 16 bits: their range by hand, in training, and in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tf_keras import layers

from edgeship.core.config import QuantizeConfig
from edgeship.core.errors import ConfigError, ExportError
from edgeship.export.checks import check_onnx, check_tflite
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.tflite.convert import convert_tflite
from edgeship.graph import read_onnx, read_tflite
from edgeship.graph.saturation import pair_sums, saturation_of, unsafe_layers
from edgeship.quantize.pair_range import has_pairs, largest_pair_sum
from edgeship.quantize.prepare import finish
from edgeship.quantize.weights import SymmetricWeights, WeightForm
from tests.support.bars import seeded, trained_bars

RANDOM = np.random.default_rng(0)


def test_the_range_by_hand() -> None:
    # Two outputs; the pairs are rows (0, 1), (2, 3), and the last row alone.
    kernel = tf.constant([[1.0, -1], [2, -3], [-4, 1], [1.5, 9], [-4.5, 0]])
    np.testing.assert_array_equal(largest_pair_sum(kernel), [4.5, 10])
    # One output of two taps and three channels: (a0 a1) (a2 b0) (b1 b2).
    taps = tf.reshape(tf.constant([1.0, 2, 10, 20, -3, -4]), (1, 2, 3, 1))
    np.testing.assert_array_equal(largest_pair_sum(taps), [30])


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 3, 8), (1, 1, 5, 8), (2, 1, 1, 8), (1, 1, 1, 8)])
@pytest.mark.parametrize("training", [True, False])
def test_codes_of_any_kernel_are_safe(shape: tuple[int, ...], training: bool) -> None:
    layer = layers.Conv2D(8, shape[:2])
    layer.build((None, None, None, shape[2]))
    for kernel in (
        RANDOM.normal(size=shape), RANDOM.laplace(size=shape) ** 3, np.full(shape, 0.7), -np.full(shape, 1e-3),
        RANDOM.choice([-1.0, 1.0, 0.5], shape), np.full(shape, 63.5 / 127),
    ):
        quantizer = SymmetricWeights(layer, form=WeightForm(weight_range="pair-safe"))
        rounded = quantizer(tf.constant(kernel, tf.float32), training, {}).numpy()
        scale = np.maximum(largest_pair_sum(tf.constant(kernel, tf.float32)).numpy(), 5e-7) / 127
        codes = np.rint(rounded / scale).reshape(-1, 8).T
        positive, negative = pair_sums(codes)
        assert positive.max() <= 128 and negative.min() >= -128
        # Nothing is clipped: a weight is half a step from its code at most.
        assert np.all(np.abs(rounded - kernel) <= scale * 0.5 * (1 + 1e-5))
        # And the range is used: the largest pair is at 126 at least, unless it is alone.
        assert np.maximum(positive, -negative).max(axis=1).min() >= 126


def test_depthwise_convolutions_keep_their_range() -> None:
    assert not has_pairs(layers.DepthwiseConv2D(3)) and has_pairs(layers.DepthwiseConv2D(3, depth_multiplier=2))
    assert has_pairs(layers.Conv2D(4, 3)) and has_pairs(layers.Dense(4))
    layer = layers.DepthwiseConv2D(3)
    layer.build((None, 8, 8, 2))
    kernel = tf.ones((3, 3, 2, 1))
    full, safe = (SymmetricWeights(layer, form=WeightForm(weight_range=name)) for name in ("full", "pair-safe"))
    np.testing.assert_array_equal(full(kernel, True, {}), safe(kernel, True, {}))


def test_the_gradient_passes_whole() -> None:
    layer = layers.Conv2D(8, 3)
    layer.build((None, None, None, 4))
    kernel = tf.Variable(RANDOM.normal(size=(3, 3, 4, 8)).astype(np.float32))
    quantizer = SymmetricWeights(layer, form=WeightForm(weight_range="pair-safe"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantizer(kernel, True, {}) * 3)
    np.testing.assert_array_equal(tape.gradient(loss, kernel), np.full((3, 3, 4, 8), 3))


def test_pair_safe_weights_are_so_in_the_files() -> None:
    """A stem of one channel (pairs over taps), convolutions of eight, and a matrix behind a Flatten."""
    files = {}
    for name in ("full", "pair-safe"):
        quantized = seeded(trained_bars(), weight_range=name)
        finish(quantized)
        tflite = convert_tflite(quantized.model, scheme="int8-ptq")
        files[name] = tflite, convert_onnx(tflite, variant="u8s8", layers=[], keep_float=[])
    tflite, onnx = files["pair-safe"]
    check_tflite(tflite, name="a.tflite", scheme="int8-ptq", weight_range="pair-safe")
    check_onnx(onnx, name="a.onnx", activations="uint8", weights="int8", weight_range="pair-safe")
    found = saturation_of(read_onnx(onnx, where=Path("a.onnx")))
    assert found.cannot_saturate is True and found.pairs > 0
    assert unsafe_layers(read_tflite(tflite, where=Path("a.tflite"))) == ()
    tflite, onnx = files["full"]
    assert saturation_of(read_onnx(onnx, where=Path("a.onnx"))).cannot_saturate is False
    for check, content, more in (
        (check_tflite, tflite, {"scheme": "int8-ptq"}), (check_onnx, onnx, {"activations": "uint8", "weights": "int8"}),
    ):
        with pytest.raises(ExportError, match=r"a\.file: not the file it must be: .* pairs of weights can saturate"):
            check(content, name="a.file", weight_range="pair-safe", **more)


def test_two_ways_to_the_same_end_are_refused() -> None:
    with pytest.raises(ConfigError, match=(
        r'quantize\.weight_range: "pair-safe" is for 8 bits, found weight_bits = 7, whose products cannot saturate'
    )):
        QuantizeConfig(weight_range="pair-safe", weight_bits=7)
    with pytest.raises(ConfigError, match=r"quantize\.weight_range: expected one of full, pair-safe; found 'safe'"):
        QuantizeConfig(weight_range="safe")
