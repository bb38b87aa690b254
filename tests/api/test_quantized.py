"""A quantized model in the user's own hands: trained by fit and by a loop of their own, frozen, exported."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import edgeship
from edgeship.core.errors import ConfigError, DataError, LoweringError, ModelError, StorageError
from edgeship.graph import read_tflite
from tests.api.conftest import DATA, RANDOM

pytestmark = pytest.mark.slow  # networks are converted

INPUTS = RANDOM.normal(size=(200, 6)).astype(np.float32)
TARGETS = (INPUTS @ RANDOM.normal(size=(6, 2)) + 3).astype(np.float32)


def small() -> Any:
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(2)
    return tf_keras.Sequential(
        [
            layers.Input((6,), name="six"), layers.Dense(12, activation="relu", name="hidden"),
            layers.Dense(2, name="out"),
        ],
        name="small",
    )


def error_of(content: bytes, tmp_path: Any) -> float:
    """The mean squared error of a float-io reading of an int8 file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for row in INPUTS:
        scale, zero = entry["quantization"]
        interpreter.set_tensor(entry["index"], np.clip(np.rint(row / scale) + zero, -128, 127).astype(np.int8)[None])
        interpreter.invoke()
        scale, zero = result["quantization"]
        answers.append((interpreter.get_tensor(result["index"])[0].astype(float) - zero) * scale)
    return float(np.mean((np.array(answers) - TARGETS) ** 2))


def test_fit_with_a_name_and_a_callback_and_the_scheme_tells_that_it_was_trained(tmp_path: Any) -> None:
    import tf_keras

    quantized = edgeship.quantize_model(small(), INPUTS)
    assert quantized.scheme == "int8-ptq"
    before = error_of(quantized.convert(), tmp_path)
    epochs: list[int] = []
    quantized = edgeship.quantize_model(small(), INPUTS)
    quantized.keras.compile(tf_keras.optimizers.Adam(1e-2), "mse")
    quantized.keras.fit(
        INPUTS, TARGETS, epochs=15, batch_size=20, verbose=0,
        callbacks=[tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))],
    )
    assert len(epochs) == 15 and quantized.scheme == "int8-qat"
    quantized.freeze()
    quantized.keras.fit(INPUTS, TARGETS, epochs=2, batch_size=20, verbose=0)
    assert error_of(quantized.convert(), tmp_path) < before / 2
    assert "int8-qat.tflite" in [item.name for item in quantized.export(tmp_path / "bundle").artifacts]


def test_a_scale_per_channel_behind_a_dense_layer_with_a_relu() -> None:
    """The converter makes one operation of the dense layer and the reshape that the scale needs."""
    import tf_keras
    from tf_keras import layers

    class Scale(layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight("scale", shape=(shape[-1],), initializer="random_normal")

        def call(self, inputs: Any) -> Any:
            return inputs * self.scale

    tf_keras.utils.set_random_seed(3)
    model = tf_keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(6, 3, name="conv"), layers.Flatten(),
        layers.Dense(16, activation="relu", name="dense"), Scale(name="scale"), layers.Dense(3, name="head"),
    ])
    quantized = edgeship.quantize_model(model, RANDOM.uniform(size=(64, 8, 8, 1)).astype(np.float32))
    assert set(quantized.account.quantized) == {"conv", "dense", "head"} and quantized.account.added == ("scale",)
    assert quantized.convert("tflite") and quantized.convert("onnx")


def test_a_hand_written_loop_follows_ranges_until_they_are_frozen() -> None:
    import tensorflow as tf

    quantized = edgeship.quantize_model(small(), INPUTS)
    optimizer = tf.keras.optimizers.Adam(1e-2)

    def step(inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((quantized.keras(inputs, training=True) - targets) ** 2)
        weights = quantized.keras.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    def ranges() -> list[float]:
        return [float(item.maximum) for item in quantized._made.ranges]

    losses, start = [float(step(INPUTS, TARGETS)) for _ in range(30)], ranges()
    assert losses[-1] < losses[0]
    quantized.freeze()
    kept = ranges()
    step(INPUTS, TARGETS)
    assert ranges() == kept and start == kept


def test_weights_are_kept_and_loaded_to_go_on_and_a_whole_model_is_not_saved(tmp_path: Any) -> None:
    quantized = edgeship.quantize_model(small(), INPUTS)
    quantized.keras.compile("adam", "mse")
    quantized.keras.fit(INPUTS, TARGETS, epochs=2, verbose=0)
    quantized.keras.save_weights(tmp_path / "kept.weights.h5")
    again = edgeship.quantize_model(small(), INPUTS)
    again.keras.load_weights(tmp_path / "kept.weights.h5")
    assert again.scheme == "int8-qat" and again.convert() == quantized.convert()
    with pytest.raises(ModelError, match=r"save: small rounds to integers, .* keep its weights"):
        quantized.keras.save(tmp_path / "whole.keras")


def test_the_ranges_of_the_inputs_are_those_of_the_calibration_data_unless_given() -> None:
    observed = edgeship.quantize_model(small(), INPUTS).convert()
    given = edgeship.quantize_model(small(), INPUTS, input_ranges=[(-10, 10)]).convert()
    scales = []
    for content in (observed, given):
        graph = read_tflite(content, where="x")  # type: ignore[arg-type]
        scale = graph.tensors[graph.inputs[0]].scales
        assert scale is not None
        scales.append(float(scale[0]))
    assert scales[0] == pytest.approx((INPUTS.max() - INPUTS.min()) / 255, rel=1e-3)
    assert scales[1] == pytest.approx(20 / 255, rel=1e-3)


def test_calibration_data_outside_of_the_ranges_that_were_given() -> None:
    pixels = np.abs(INPUTS) / np.abs(INPUTS).max()
    step = 1 / 255
    edgeship.quantize_model(small(), pixels * (1 + step / 3), input_ranges=[(0, 1)])
    for scale, largest in ((255, "255"), (1 + step, "1.00392")):
        with pytest.raises(DataError, match=f"data of .* within 0 to 1, found .* to {largest}, and the files"):
            edgeship.quantize_model(small(), pixels * scale, input_ranges=[(0, 1)])


def test_inputs_on_another_scale_than_the_model_was_trained_on() -> None:
    import tf_keras
    from tf_keras import layers

    model = tf_keras.Sequential([layers.Input((6,)), layers.Rescaling(1 / 255), layers.Dense(3, name="out")])
    pixels = np.random.default_rng(0).uniform(0, 1, (64, 6)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"calibration: inputs from .* reach out as .* nearly all alike; was"):
        edgeship.quantize_model(model, pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        edgeship.quantize_model(model, 255 * pixels)


def used_up() -> Iterator[np.ndarray]:
    batches = iter([INPUTS])
    next(batches)
    return batches


@pytest.mark.parametrize(("calibration", "message"), [
    (lambda: INPUTS[:, :4], r"calibration: expected .*: float32 \(n, 6\), found an array of shape \(200, 4\)"),
    (list, "calibration: expected at least one batch, found none"),
    (used_up, "was a generator used up before"),
    (lambda: np.full((4, 6), np.nan), "calibration: expected finite values"),
    (lambda: [INPUTS, INPUTS[:, :2]], r"calibration, batch 2: expected .* found an array of shape \(200, 2\)"),
], ids=range(5))
def test_calibration_data_that_do_not_fit(calibration: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        edgeship.quantize_model(small(), calibration())


def test_what_is_no_model_and_options_out_of_range() -> None:
    with pytest.raises(LoweringError, match="expected a"):
        edgeship.quantize_model(3, INPUTS)
    with pytest.raises(ConfigError, match=r"quantize\.calibration: expected one of min-max"):
        edgeship.quantize_model(small(), INPUTS, method="minmax")
    with pytest.raises(ModelError, match=r"input_ranges: expected \(smallest, largest\) for each of 1 input"):
        edgeship.quantize_model(small(), INPUTS, input_ranges=[(1, -1)])
    with pytest.raises(LoweringError, match="no layer is called 'hiden'"):
        edgeship.quantize_model(small(), INPUTS, keep_float=["hiden"])


def test_a_model_whose_outputs_are_constant() -> None:
    model = small()
    model.get_layer("out").set_weights([np.zeros((12, 2)), np.ones(2)])
    with pytest.raises(ModelError, match=r"small: the output .* is the same for the first 32 calibration examples"):
        edgeship.quantize_model(model, INPUTS)


def test_sorted_examples_whose_first_have_one_answer() -> None:
    edgeship.quantize_model(small(), np.concatenate([np.repeat(INPUTS[:1], 20, axis=0), INPUTS]))


def test_another_network_in_the_place_of_the_quantized_one() -> None:
    quantized = edgeship.quantize_model(small(), INPUTS)
    quantized.keras = small()
    with pytest.raises(ModelError, match="the network is not the one that quantize_model made"):
        quantized.convert()


def test_weights_that_are_nan() -> None:
    broken = small()
    broken.get_layer("hidden").kernel.assign(np.full((6, 12), np.nan))
    with pytest.raises(ModelError, match="hidden/kernel:0: the weight has NaN or infinite values"):
        edgeship.quantize_model(broken, INPUTS)
    quantized = edgeship.quantize_model(small(), INPUTS)
    quantized.keras.trainable_variables[0].assign(np.full((6, 12), np.nan))
    with pytest.raises(ModelError, match="the weight has NaN or infinite values"):
        quantized.convert()


@pytest.mark.parametrize(("arguments", "message"), [
    (lambda keras: {"optimizer": keras.optimizers.Adam(), "loss": "mse"}, r"Adam is of Keras 3 .* tf_keras.optimizers"),
    (lambda keras: {"loss": keras.losses.MeanSquaredError()}, r"MeanSquaredError is of Keras 3 .* tf_keras.losses"),
    (lambda keras: {"loss": "mse", "metrics": [keras.metrics.MeanAbsoluteError()]}, r"of Keras 3 .* tf_keras.metrics"),
])
def test_objects_of_keras_3_in_compile(arguments: Any, message: str) -> None:
    import keras

    quantized = edgeship.quantize_model(small(), INPUTS)
    with pytest.raises(ModelError, match=message):
        quantized.keras.compile(**arguments(keras))


def test_an_unknown_format_artifact_metric_and_option(
    quantized: edgeship.QuantizedModel, bundle: edgeship.Bundle
) -> None:
    with pytest.raises(ConfigError, match=r"export\.formats: expected one of tflite, onnx, ort; found 'torch'"):
        quantized.convert("torch")
    with pytest.raises(ConfigError, match=r"expected one of float32\.tflite, .*; found 'int4'"):
        bundle.path("int4")
    with pytest.raises(ConfigError, match=r"metric: expected one of top1, .*; found 'accuracy'"):
        bundle.validate(DATA, np.zeros(96), metric="accuracy")
    with pytest.raises(ConfigError, match="validate: unknown option 'runtime'"):
        bundle.validate(DATA, runtime="litert")
    with pytest.raises(ConfigError, match=r'validate\.images: expected a whole number, found "10"'):
        bundle.validate(DATA, images="10")
    with pytest.raises(ConfigError, match=r'validate\.max_accuracy_drop: expected a number, found "2%"'):
        bundle.validate(DATA, max_accuracy_drop="2%")
    with pytest.raises(ConfigError, match="compare: unknown option 'tolerence'"):
        edgeship.compare_files(b"", b"", tolerence=0.1)
    with pytest.raises(DataError, match=r"inputs: expected arrays by the names of the inputs .*found \['facts'\]"):
        bundle.validate({"facts": DATA["facts"]})
    with pytest.raises(DataError, match="targets: expected one for each of the 96 examples, found 95"):
        bundle.validate(DATA, np.zeros(95), metric="top1")


def test_a_folder_of_other_things_is_left_alone_and_a_bundle_is_replaced(tmp_path: Any) -> None:
    quantized = edgeship.quantize_model(small(), INPUTS)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious.txt").write_text("kept")
    with pytest.raises(StorageError, match=r"mine: expected a new folder, .* a folder with 'precious\.txt' in it"):
        quantized.export(mine)
    with pytest.raises(StorageError, match=r"precious\.txt: expected a folder for the bundle, found a file"):
        quantized.export(mine / "precious.txt")
    assert (mine / "precious.txt").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    for formats in ("tflite", ("tflite", "onnx")):  # one name alone is one name
        bundle = quantized.export(tmp_path / "empty", formats=formats)
    assert len(bundle.artifacts) == 5


def test_names_that_do_not_fit_the_classes_and_metrics_that_are_not_there(tmp_path: Any) -> None:
    quantized = edgeship.quantize_model(small(), INPUTS)
    for labels in (["one"], "abc"):
        with pytest.raises(ConfigError, match=r"labels: expected one name for each class .* 2\), found 1"):
            quantized.export(tmp_path / "bundle", labels=labels)
    with pytest.raises(ConfigError, match=r"metric: expected one of top1, .*; found 'accuracy'"):
        quantized.export(tmp_path / "bundle", metric="accuracy")
    assert edgeship.quantize_model(small(), INPUTS, keep_float="hidden").account.kept_weights == ("hidden",)
    assert not (tmp_path / "bundle").exists()


def test_a_scheme_that_this_model_is_not() -> None:
    with pytest.raises(ConfigError, match="scheme: expected 'float32', or 'int8-ptq', which this model is; found"):
        edgeship.quantize_model(small(), INPUTS).convert(scheme="float16")


def test_the_same_numbers_give_the_same_bytes() -> None:
    one, two = (edgeship.quantize_model(small(), INPUTS) for _ in range(2))
    for format in ("tflite", "onnx"):
        assert one.convert(format) == two.convert(format)


@pytest.mark.parametrize("options", [{}, {"center": False, "scale": False}], ids=["untrained", "without weights"])
def test_a_norm_kept_in_float_may_end_with_a_move_of_integers(options: dict[str, bool], tmp_path: Path) -> None:
    """Without a scale and an offset that do something, the last operation of a norm is a TRANSPOSE."""
    image = layers.Input((16, 6), name="image")
    x = layers.Dense(8, activation="relu", name="embed")(image)
    x = layers.Dense(8, activation="relu", name="reads")(layers.LayerNormalization(name="norm", **options)(x))
    model = tf_keras.Model(image, layers.Dense(3, name="last")(layers.GlobalAveragePooling1D(name="mean")(x)))
    examples = np.random.default_rng(0).random((32, 16, 6), np.float32)
    bundle = edgeship.quantize_model(model, examples, keep_float=["norm"]).export(tmp_path / "bundle")
    report = bundle.validate(examples[:8])
    assert report.verdict == "pass", report.failures
