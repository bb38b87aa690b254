"""Layers kept in float in integer files: really float in both formats and on both runtimes, and named."""

from __future__ import annotations

import collections
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tf_keras import layers

from edgeship.core.errors import ExportError
from edgeship.core.integers import dequantize
from edgeship.export.checks import check_onnx, check_tflite, float_weighted
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.proof.golden import specs_of
from edgeship.export.tflite.convert import convert_tflite, layer_names
from edgeship.export.tflite.float_layers import with_float_layers
from edgeship.graph import read_onnx, read_tflite
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish
from tests.support.answers import onnx_answers, tflite_answers
from tests.support.networks import convert, quantized_model, randomize, tflite_of

IMAGES = np.random.default_rng(0).random((16, 8, 8, 3), np.float32)


def network() -> tf_keras.Model:
    tf_keras.utils.set_random_seed(2)
    image = layers.Input((8, 8, 3), name="image")
    conv = {"filters": 8, "kernel_size": 3, "padding": "same", "bias_initializer": "random_normal"}
    first = layers.Conv2D(**conv, activation="relu", name="first")(image)
    second = layers.Conv2D(**conv, name="second")(first)
    third = layers.Conv2D(**conv, name="third")(second)
    joined = layers.ReLU(name="joined_relu")(layers.Add(name="joined")([first, third]))
    pooled = layers.GlobalAveragePooling2D(name="pool")(joined)
    head = layers.Dense(4, activation="softmax", bias_initializer="random_normal", name="head")(pooled)
    return tf_keras.Model(image, head, name="net")


def quantized(*keep_float: str, bits: int = 8) -> QuantizedModel:
    made = insert_fake_quantization(network(), input_ranges=[(0.0, 1.0)], keep_float=keep_float, weight_bits=bits)
    calibrate(made, [IMAGES], method="min-max")
    finish(made)
    return made


def files(made: QuantizedModel) -> tuple[bytes, bytes]:
    """The TFLite and the U8U8 ONNX file."""
    tflite, names, kept = tflite_of(made, scheme="int8-mixed"), layer_names(made.model), made.account.kept_float
    return tflite, convert_onnx(tflite, variant="u8u8", layers=names, keep_float=kept)


@pytest.fixture(scope="module")
def mixed() -> tuple[QuantizedModel, bytes, bytes]:
    made = quantized("second", "head")
    return made, *files(made)


def kinds_of_floats(content: bytes) -> dict[str, set[str]]:
    """Operation -> the dtypes of its tensors, of the operations that work on floats; conversions left out."""
    graph = read_tflite(content, where=Path("a.tflite"))
    found = {
        operation.name: {graph.tensors[name].dtype for name in (*operation.inputs, *operation.outputs) if name}
        for operation in graph.operations if operation.kind not in ("QUANTIZE", "DEQUANTIZE")
    }
    return {name: dtypes for name, dtypes in found.items() if "float32" in dtypes}


def test_the_converter_alone_quantizes_what_should_stay_in_float() -> None:
    """The reason for all of this; where it stops, export/tflite/float_layers.py can go."""
    made = quantized("second")
    assert kinds_of_floats(convert_tflite(made.model, scheme="int8-mixed")) == {}


def test_kept_layers_are_float_and_all_others_are_not(mixed: tuple[QuantizedModel, bytes, bytes]) -> None:
    made, tflite, _ = mixed
    assert made.account.kept_float == ("second", "head", "head_softmax")
    assert kinds_of_floats(tflite) == {
        "second/float": {"float32"}, "head/fully_connected": {"float32"}, "head_softmax": {"float32"},
    }
    check_tflite(
        tflite, name="a.tflite", scheme="int8-mixed", layers=layer_names(made.model), kept_float=made.account.kept_float
    )


def test_kept_kernels_are_the_float_ones_and_nothing_is_left_of_the_integer_ones(
    mixed: tuple[QuantizedModel, bytes, bytes]
) -> None:
    made, tflite, _ = mixed
    graph = read_tflite(tflite, where=Path("a.tflite"))
    second = made.model.get_layer("second")
    np.testing.assert_array_equal(graph.tensors["second/kernel"].data, second.kernel.numpy().transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(graph.tensors["second/bias"].data, second.bias.numpy())
    used = {name for operation in graph.operations for name in (*operation.inputs, *operation.outputs)}
    assert set(graph.tensors) == used - {""}


def run_lite(content: bytes, image: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def test_both_runtimes_compute_kept_layers_in_float(mixed: tuple[QuantizedModel, bytes, bytes], tmp_path: Path) -> None:
    made, tflite, content = mixed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "plan.onnx")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "plan.onnx").graph.node)
    # One convolution and the dense layer in float, the other two convolutions in integers.
    assert kinds["QLinearConv"] == 2 and kinds["Conv"] + kinds["FusedConv"] == 1 and kinds["Gemm"] == 1
    assert kinds["QLinearSoftmax"] == 0 and kinds["Softmax"] == 1
    expected = made.model.predict(IMAGES, verbose=0)
    _, (output,) = specs_of(tflite, format="tflite")
    for image, wanted in zip(np.rint(IMAGES * 255).astype(int), expected, strict=True):
        lite = run_lite(tflite, (image - 128).astype(np.int8)[None])
        ort = session.run(None, {"image": image.astype(np.uint8)[None]})[0]
        assert np.abs(lite.astype(int) + 128 - ort).max() <= 1
        # One step of the output, and one more for what rounding inside the network moves.
        assert np.abs(dequantize(lite, output)[0] - wanted).max() <= 2 * output.scale


def test_the_input_of_a_float_layer_keeps_its_grid_in_onnx() -> None:
    """It is dequantized by Cast and Mul there; whoever feeds the file must still be told its scale."""
    tflite, content = files(quantized("first"))
    (lite,), _ = specs_of(tflite, format="tflite")
    (entry,), _ = specs_of(content, format="onnx")
    assert entry.dtype == "uint8" and entry.scale == pytest.approx(lite.scale, rel=1e-7)
    assert (lite.zero_point, entry.zero_point) == (-128, 0)
    made = quantized("third")  # an activation in the middle, its zero point not 0
    _, content = files(made)
    tensor = read_onnx(content, where=Path("mixed.onnx")).tensors["second"]
    assert tensor.scales is not None and tensor.scales[0] == pytest.approx(made.results["second"].scale, rel=1e-6)
    assert tensor.zero_points is not None and tensor.zero_points[0] != 0


def test_onnx_promises_count_the_float_weights(mixed: tuple[QuantizedModel, bytes, bytes]) -> None:
    _, tflite, content = mixed
    assert float_weighted(tflite, name="a.tflite") == 2
    check_onnx(content, name="a.onnx", activations="uint8", weights="uint8", float_weights=2)
    with pytest.raises(ExportError, match="expected 0 operations of float32 weights, not uint8; found 2: second/float"):
        check_onnx(content, name="a.onnx", activations="uint8", weights="uint8")


def test_neighbours_in_float_do_not_round_between_them() -> None:
    made = quantized("second", "third")
    tflite, content = files(made)
    graph = read_tflite(tflite, where=Path("a.tflite"))
    assert graph.producers["third"].inputs[0] == "second" and graph.tensors["second"].dtype == "float32"
    assert [operation.kind for operation in graph.operations].count("QUANTIZE") == 1
    convolutions = [node for node in read_onnx(content, where=Path("a.onnx")).operations if node.kind == "Conv"]
    assert [node.name for node in convolutions] == ["first/Conv", "second", "third"]
    assert convolutions[2].inputs[0] == "second"


def test_what_is_float_without_being_kept_is_refused(mixed: tuple[QuantizedModel, bytes, bytes]) -> None:
    made, tflite, _ = mixed
    names = layer_names(made.model)
    with pytest.raises(ExportError, match=r"a\.tflite: .*second/float: weights are float32, not int8"):
        check_tflite(tflite, name="a.tflite", scheme="int8-mixed", layers=names, kept_float=("head", "head_softmax"))
    integer, _ = files(quantized())
    with pytest.raises(ExportError, match="CONV_2D second is kept in float, but has the int8 tensor"):
        check_tflite(integer, name="b.tflite", scheme="int8-mixed", layers=names, kept_float=("second",))


def test_a_layer_that_is_not_in_the_other_file_cannot_be_restored() -> None:
    made = quantized("second")
    other = tf_keras.Model(made.model.inputs, made.model.get_layer("first_relu").output, name="net")
    with pytest.raises(ExportError, match="second: cannot be kept in float: its float32 operation was not found"):
        with_float_layers(
            convert_tflite(made.model, scheme="int8-mixed"), convert_tflite(other), layers=layer_names(made.model),
            keep_float=("second",), rounded=(),
        )


def test_seven_bits_are_checked_in_both_formats() -> None:
    seven, eight = files(quantized(bits=7)), files(quantized())
    for bits, (tflite, content) in ((7, seven), (8, eight)):
        check_tflite(tflite, name="a.tflite", scheme="int8-ptq", weight_bits=bits)
        check_onnx(content, name="a.onnx", activations="uint8", weights="uint8", weight_bits=bits)
    beyond = r"a weight is 127, beyond the \+-63 of 7 bits"
    with pytest.raises(ExportError, match=beyond):
        check_tflite(eight[0], name="a.tflite", scheme="int8-ptq", weight_bits=7)
    with pytest.raises(ExportError, match=beyond):
        check_onnx(eight[1], name="a.onnx", activations="uint8", weights="uint8", weight_bits=7)


FILES_AGAIN = """
import hashlib
from tests.export.tflite.test_float_layers import files, quantized
print(*(hashlib.sha256(content).hexdigest() for content in files(quantized("second", "head"))))
"""


def test_the_same_bytes_in_a_fresh_process(mixed: tuple[QuantizedModel, bytes, bytes]) -> None:
    fresh = subprocess.run(
        [sys.executable, "-c", FILES_AGAIN], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "."}, cwd=Path(__file__).parents[3],
    )
    assert fresh.stdout.split()[-2:] == [hashlib.sha256(content).hexdigest() for content in mixed[1:]]


@pytest.mark.parametrize("norm", [
    layers.LayerNormalization(name="norm", gamma_initializer="random_uniform"),
    layers.GroupNormalization(4, name="norm", gamma_initializer="random_uniform"),
    layers.UnitNormalization(name="norm"),
], ids=["layer", "group", "unit"])
def test_nothing_is_rounded_inside_a_kept_layer_of_several_operations(norm: layers.Layer) -> None:
    """The converter spreads the rounding of a LayerNormalization's input over its TRANSPOSE and MEAN, and quantizes the
    result of a GroupNormalization in front of its last RESHAPE.
    """
    made = normalized("norm", norm=norm)
    tflite, onnx_file = files(made)
    codes = np.random.default_rng(4).integers(-128, 128, (8, 8, 8, 3), dtype=np.int8)
    expected = made.model.predict((codes.astype(np.float32) + 128) / 255, verbose=0)
    found = [dequantize(tflite_answers(tflite, codes), specs_of(tflite, format="tflite")[1][0])]
    unsigned = (codes.astype(np.int16) + 128).astype(np.uint8)
    found.append(dequantize(onnx_answers(onnx_file, unsigned), specs_of(onnx_file, format="onnx")[1][0]))
    for answers in found:
        # One LSB of the softmax: a logit within float32 rounding of the middle between two codes falls to either side.
        assert np.abs(answers - np.rint(expected * 256) / 256).max() <= 1 / 256
        assert np.mean(answers != np.clip(np.rint(expected * 256), 0, 255) / 256) < 0.1


def test_what_the_integer_kernel_s_own_grid_rounds_is_rounded_once_in_float() -> None:
    """TFLite's L2_NORMALIZATION has steps of 1/128, behind which the converter changes to the range of the model."""
    image = layers.Input((6, 6, 8), name="image")
    unit = tf.math.l2_normalize(layers.GlobalAveragePooling2D(name="mean")(image), axis=-1)
    model = lower(tf_keras.Model(image, layers.Dense(3, name="out")(unit), name="cosine"))
    kept = next(layer.name for layer in model.layers if "l2_normalize" in layer.name)
    made, _ = quantized_model(model, keep_float=[kept])
    _, graph = convert(made)  # which refuses a stray QUANTIZE
    assert [operation.kind for operation in graph.operations] == [
        "MEAN", "DEQUANTIZE", "L2_NORMALIZATION", "QUANTIZE", "FULLY_CONNECTED",
    ]


def test_a_file_that_rounds_inside_a_kept_layer_is_not_what_it_must_be() -> None:
    made = normalized("norm")
    names = layer_names(made.model)
    broken = with_float_layers(  # as if two layers stood where one does, between which the model rounds
        convert_tflite(made.model, scheme="int8-mixed"), convert_tflite(made.model), layers={*names, "norm/mean"},
        keep_float=("norm", "norm/mean"), rounded=("norm", "norm/mean"),
    )
    with pytest.raises(ExportError, match=r"norm is kept in float, but rounds norm/.* inside"):
        check_tflite(broken, name="a.tflite", scheme="int8-mixed", layers=names, kept_float=("norm",))


def test_a_move_of_integers_at_the_start_of_a_kept_layer_is_not_what_it_must_be() -> None:
    """Only behind the last float operation of a layer may its values be moved as integers."""
    image = layers.Input((4, 6), name="image")
    x = layers.LayerNormalization(name="norm")(layers.Dense(8, activation="relu", name="embed")(image))
    model = randomize(tf_keras.Model(image, layers.Dense(3, name="last")(x), name="tokens"))
    made, _ = quantized_model(model, keep_float=["norm"])
    unchanged = convert_tflite(made.model, scheme="int8-mixed")
    with pytest.raises(ExportError, match="TRANSPOSE norm/transpose is kept in float, but has the int8 tensor norm"):
        check_tflite(
            unchanged, name="a.tflite", scheme="int8-mixed", layers=layer_names(made.model), kept_float=("norm",)
        )


def normalized(*keep_float: str, norm: layers.Layer | None = None) -> QuantizedModel:
    tf_keras.utils.set_random_seed(2)
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    norm = norm or layers.LayerNormalization(name="norm", gamma_initializer="random_uniform")
    x = layers.ReLU(name="behind")(type(norm).from_config(norm.get_config())(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf_keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x), name="net")
    made = insert_fake_quantization(model, input_ranges=[(0.0, 1.0)], keep_float=keep_float)
    calibrate(made, [IMAGES], method="min-max")
    finish(made)
    return made
