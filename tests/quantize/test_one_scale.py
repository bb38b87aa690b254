"""One scale for a whole kernel: by hand, in the files of both formats, and what equalization makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from tf_keras import layers

import edgeship
from edgeship.core.config import PER_TENSOR, QuantizeConfig
from edgeship.core.errors import ConfigError, ExportError
from edgeship.core.integers import sqnr_db
from edgeship.core.layer_names import wrapper_name
from edgeship.export.checks import check_onnx, check_tflite
from edgeship.graph import read_onnx, read_tflite
from edgeship.quantize.channel_factors import made_shares, read_shares
from edgeship.quantize.equalization import equalize
from edgeship.quantize.insert import insert_fake_quantization
from edgeship.quantize.layerwise import adjust_layers
from edgeship.quantize.prepare import calibrate, finish
from edgeship.quantize.rounding import round_by_answers
from edgeship.quantize.simplifying.evened import even_channels
from edgeship.quantize.weights import SymmetricWeights, WeightForm
from tests.support.networks import EPS, noise_for, quantized_model, randomize

SIZES = np.geomspace(0.02, 1.0, 8).astype(np.float32)  # 50 times: of 64 times channels are made even before


def depthwise_chain(*, between: type[layers.Layer] = layers.ReLU) -> tf_keras.Model:
    """Channels whose sizes differ 50 times in each kernel, in front of a depthwise layer and behind it."""
    image = layers.Input((8, 8, 3), name="image")
    x = between(name="first_act")(layers.Conv2D(8, 3, name="first")(image))
    x = between(name="depthwise_act")(layers.DepthwiseConv2D(3, name="depthwise")(x))
    model = randomize(tf_keras.Model(image, layers.Conv2D(4, 1, name="last")(x), name="chain"))
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel * SIZES, bias * SIZES])
    # The depthwise kernel gives its channels sizes in the other order, and takes those of the first layer away.
    kernel, bias = model.get_layer("depthwise").get_weights()
    model.get_layer("depthwise").set_weights([kernel * (SIZES[::-1] / SIZES)[:, None], bias * SIZES[::-1]])
    kernel, bias = model.get_layer("last").get_weights()
    model.get_layer("last").set_weights([kernel / SIZES[::-1][:, None], bias])
    return model


def test_shares_by_hand() -> None:
    kernel = np.array([[1.0, -8.0], [0.5, 2.0]])  # (inputs, outputs)
    np.testing.assert_array_equal(read_shares(kernel), [1.0, 0.5])  # 0.5 of 1 and 2 of 8
    np.testing.assert_array_equal(read_shares(kernel, one_scale=True), [1.0, 0.25])
    np.testing.assert_array_equal(made_shares(kernel, axes=1), [0.125, 1.0])
    depthwise = np.array([[1.0, -2.0], [4.0, 0.5]])[None, None]  # (1, 1, channels, multiplier)
    np.testing.assert_array_equal(read_shares(depthwise, one_scale=True), [0.5, 1.0])
    np.testing.assert_array_equal(made_shares(depthwise, axes=2), [0.25, 0.5, 1.0, 0.125])


def test_the_largest_bias_sets_the_least_scale_of_all_channels() -> None:
    quantizer = SymmetricWeights(layers.Dense(2), form=WeightForm(scales=PER_TENSOR))
    quantizer.keep_biases_below(100, biases=np.array([0.0, 50.0]), input_scale=1.0)
    # 50 = 100 codes of input scale 1 x weight scale 0.5; alone, the kernel's largest weight would make 1 / 127.
    np.testing.assert_allclose(quantizer.scales(np.array([[1.0, 0.5]], np.float32)), [0.5], rtol=4 * EPS)


def test_the_gradient_passes_whole() -> None:
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype(np.float32))
    quantizer = SymmetricWeights(layers.Conv2D(8, 3), form=WeightForm(scales=PER_TENSOR))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantizer(kernel, True, {}) * 3)
    np.testing.assert_array_equal(tape.gradient(loss, kernel), np.full((3, 3, 4, 8), 3))


def every_kernel() -> tf_keras.Model:
    """Each kind of kernel that files have: plain, dilated, grouped, transposed, depthwise, dense, of sequences."""
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="plain")(image)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="dilated")(x))
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu6", name="grouped")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.AveragePooling2D(2, padding="same", name="pool")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", name="transposed")(x)
    x = layers.SeparableConv2D(6, 3, activation="swish", name="separable")(x)
    x = layers.Conv1D(5, 3, activation="relu", name="sequence")(layers.Reshape((16, 6), name="row")(x))
    x = layers.Dense(7, activation="relu", name="tokens")(x)
    x = layers.Dense(5, activation="tanh", name="hidden")(layers.Flatten(name="flat")(x))
    return randomize(tf_keras.Model(image, layers.Dense(3, name="answer")(x), name="kernels"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, folder = every_kernel(), tmp_path_factory.mktemp("bundle")
    # The export proves each file against its Keras model.
    edgeship.quantize_model(model, noise_for(model, count=32), weight_scales="per-tensor").export(folder)
    return folder


def test_every_kernel_of_both_formats_has_one_scale(bundle: Path) -> None:
    tflite = read_tflite((bundle / "int8-ptq.tflite").read_bytes(), where=bundle / "int8-ptq.tflite")
    scales = [item.weights.scales for item in tflite.weighted_operations()]
    assert len(scales) >= 12 and all(own is not None and own.size == 1 for own in scales)
    for name in ("int8-ptq.onnx", "int8-ptq-u8s8.onnx"):
        onnx = read_onnx((bundle / name).read_bytes(), where=bundle / name)
        found = sorted(float(item.weights.scales[0]) for item in onnx.weighted_operations())
        np.testing.assert_array_equal(found, sorted(float(own[0]) for own in scales if own is not None))
    file = schema.ModelT.InitFromPackedBuf((bundle / "int8-ptq.tflite").read_bytes(), 0)
    versions = {
        code.version for code in file.operatorCodes if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    }
    assert max(versions) < 12  # from which on units have scales of their own, and which older devices refuse
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["quantization"]["int8-ptq"]["weight_scales"] == "per-tensor"


def test_kernels_that_several_layers_share_have_one_scale_too(tmp_path: Path) -> None:
    """The converter merges equal constants, as the 3 and the 1/6 of two hard swishes are."""
    image = layers.Input((8, 8, 4), name="image")
    x = image
    for number in range(2):
        x = layers.Conv2D(4, 3, padding="same", name=f"conv{number}")(x)
        x = x * layers.ReLU(6.0, name=f"gate{number}")(x + 3.0) / 6.0
        x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1, name=f"depthwise{number}")(x)
        x = layers.Dense(4, activation="relu", name=f"dense{number}")(x)
    model = randomize(tf_keras.Model(image, layers.GlobalMaxPooling2D(name="top")(x), name="shared"))
    for name in ("conv", "depthwise", "dense"):
        model.get_layer(f"{name}1").set_weights(model.get_layer(f"{name}0").get_weights())
    edgeship.quantize_model(model, noise_for(model, count=16), weight_scales="per-tensor").export(tmp_path / "bundle")
    graph = read_tflite((tmp_path / "bundle" / "int8-ptq.tflite").read_bytes(), where=tmp_path)
    scales = [item.weights.scales for item in graph.weighted_operations()]
    assert len(scales) >= 8 and all(own is not None and own.size == 1 for own in scales)


def test_a_file_of_other_scales_is_refused(bundle: Path, tiny_bundle: Path) -> None:
    content, onnx = (bundle / "int8-ptq.tflite").read_bytes(), (bundle / "int8-ptq.onnx").read_bytes()
    check_tflite(content, name="a.tflite", scheme="int8-ptq", weight_scales="per-tensor")
    check_onnx(onnx, name="a.onnx", activations="uint8", weights="uint8", weight_scales="per-tensor")
    with pytest.raises(ExportError, match="1 weight scales for 8 output channels, not per-channel"):
        check_tflite(content, name="a.tflite", scheme="int8-ptq")
    with pytest.raises(ExportError, match="1 weight scales for 8 output channels, not per-channel"):
        check_onnx(onnx, name="a.onnx", activations="uint8", weights="uint8")
    with pytest.raises(ExportError, match="8 weight scales for 8 output channels, not per-tensor"):
        check_tflite(
            (tiny_bundle / "int8-qat.tflite").read_bytes(), name="a.tflite", scheme="int8-qat",
            weight_scales="per-tensor",
        )


def test_equalization_balances_kernels_on_both_sides_of_a_depthwise_layer() -> None:
    model = depthwise_chain()
    quantized, noise = quantized_model(model, weight_scales=PER_TENSOR)
    wanted = model(noise).numpy()
    before = sqnr_db(wanted, quantized.model(noise).numpy())
    sizes = equalize(quantized, [noise])
    assert set(sizes) == {"first", "first_act", "depthwise", "depthwise_act"}
    quantized.check_in_float([noise], on="noise")
    calibrate(quantized, [noise], method="min-max")
    finish(quantized)
    assert sqnr_db(wanted, quantized.model(noise).numpy()) > before + 12  # two bits
    # Nothing is left to balance.
    again = equalize(quantized, [noise])
    assert all(values.min() > 0.95 for values in again.values())


def test_a_relu6_passes_no_factor() -> None:
    model = depthwise_chain(between=lambda name: layers.ReLU(6.0, name=name))
    quantized, noise = quantized_model(model, weight_scales=PER_TENSOR)
    assert equalize(quantized, [noise]) == {}


@pytest.mark.parametrize("second", ["depthwise", "conv"])
def test_channels_that_one_scale_would_lose_are_made_even(second: str) -> None:
    image = layers.Input((8, 8, 3), name="image")
    x = layers.ReLU(name="relu")(layers.Conv2D(8, 3, name="first")(image))
    last = layers.DepthwiseConv2D(3, name="last") if second == "depthwise" else layers.Conv2D(4, 3, name="last")
    model = randomize(tf_keras.Model(image, last(x), name="model"))
    sizes = np.geomspace(1e-3, 1.0, 8).astype(np.float32)
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel * sizes, bias * sizes])
    kernel, bias = model.get_layer("last").get_weights()
    model.get_layer("last").set_weights([kernel / sizes[:, None], bias])
    noise = noise_for(model)
    wanted = model(noise).numpy()
    assert even_channels(model, kept=(), one_scale=True).layers == ("first",)
    np.testing.assert_array_equal(model(noise).numpy(), wanted)
    for layer, axes in (("first", (0, 1, 2)), ("last", (0, 1, 3))):
        largest = np.abs(model.get_layer(layer).get_weights()[0]).max(axis=axes)
        assert largest.max() < 16 * largest.min()  # 1000 times before


@pytest.mark.parametrize("name", ["depthwise", "last"])
def test_rounding_by_answers_stays_on_the_grid(name: str) -> None:
    quantized, noise = quantized_model(depthwise_chain(), weight_scales=PER_TENSOR)
    layer = quantized.model.get_layer(wrapper_name(name))
    (scale,) = layer.kernel_scales
    before = np.rint(layer.kernel_values / scale)
    adjust_layers(quantized, [tf.constant(noise)], round_by_answers)
    np.testing.assert_allclose(layer.kernel_scales, [scale], rtol=4 * EPS)
    codes = layer.kernel_values / scale
    np.testing.assert_allclose(codes, np.rint(codes), rtol=0, atol=127 * 4 * EPS)
    assert np.abs(np.rint(codes) - before).max() >= 1


def test_the_codes_tell_how_the_model_was_made() -> None:
    flat = depthwise_chain()
    made = insert_fake_quantization(flat, input_ranges=[None], weight_scales="per-tensor", weight_bits=7)
    assert made.codes == {"weight_bits": 7, "weight_range": "full", "weight_scales": "per-tensor"}


@pytest.mark.parametrize("scheme", ["dynamic-int8", "weight-only-int8", "int16x8-ptq"])
def test_schemes_of_other_scales_are_refused_beside_it(scheme: str) -> None:
    with pytest.raises(ConfigError, match=(
        rf'quantize\.weight_scales: {scheme} has a scale per output channel, found "per-tensor"; leave {scheme} out of '
        'quantize.schemes, or set "per-channel"'
    )):
        QuantizeConfig(weight_scales="per-tensor", schemes=("int8-ptq", scheme))
    QuantizeConfig(weight_scales="per-tensor", schemes=("float32", "float16", "int8-ptq-best", "int8-mixed"),
                   max_accuracy_drop=0.01)
    with pytest.raises(ConfigError, match=r"weight_scales: expected one of per-channel, per-tensor; found 'one'"):
        QuantizeConfig(weight_scales="one")
