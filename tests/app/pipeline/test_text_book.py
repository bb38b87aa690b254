"""A residual network as a text book prints it, in either Keras, from the factory to the verdict."""

from __future__ import annotations

import pytest
import tf_keras

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import (
    Config,
    DataConfig,
    ExportConfig,
    ModelConfig,
    QuantizeConfig,
    TrainConfig,
    ValidateConfig,
)

# No get_config, no registration, layers in lists, an activation among them, layers made by a partial.
PAGE = """
from functools import partial

{imported}

DefaultConv2D = partial(
    keras.layers.Conv2D, kernel_size=3, strides=1, padding="same", kernel_initializer="he_normal", use_bias=False
)


class ResidualUnit(keras.layers.Layer):
    def __init__(self, filters, strides=1, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.main_layers = [
            DefaultConv2D(filters, strides=strides), keras.layers.BatchNormalization(), self.activation,
            DefaultConv2D(filters), keras.layers.BatchNormalization(),
        ]
        self.skip_layers = []
        if strides > 1:
            self.skip_layers = [
                DefaultConv2D(filters, kernel_size=1, strides=strides), keras.layers.BatchNormalization(),
            ]

    def call(self, inputs):
        Z = inputs
        for layer in self.main_layers:
            Z = layer(Z)
        skip_Z = inputs
        for layer in self.skip_layers:
            skip_Z = layer(skip_Z)
        return self.activation(Z + skip_Z)


def build(input_shape, classes):
    model = keras.Sequential([
        keras.layers.Input(input_shape, name="image"),
        DefaultConv2D(8), keras.layers.BatchNormalization(), keras.layers.Activation("relu"),
    ])
    prev_filters = 8
    for filters in [8] * 1 + [16] * 1:
        strides = 1 if filters == prev_filters else 2
        model.add(ResidualUnit(filters, strides=strides))
        prev_filters = filters
    model.add(keras.layers.GlobalAvgPool2D())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(classes, activation="softmax"))
    return model
"""
IMPORTS = {"keras 3": "import keras", "keras 2": "import tf_keras as keras"}
LAYERS = [
    "image", "conv2d", "batch_normalization", "activation", "residual_unit_conv2d", "residual_unit_batch_normalization",
    "residual_unit_relu", "residual_unit_conv2d_2", "residual_unit_batch_normalization_2", "residual_unit_add",
    "residual_unit_relu_2", "residual_unit_1_conv2d", "residual_unit_1_batch_normalization", "residual_unit_1_relu",
    "residual_unit_1_conv2d_2", "residual_unit_1_conv2d_3", "residual_unit_1_batch_normalization_2",
    "residual_unit_1_batch_normalization_3", "residual_unit_1_add", "residual_unit_1_relu_2",
    "global_average_pooling2d", "flatten", "dense",
]


@pytest.mark.parametrize("version", IMPORTS)
def test_the_page_is_trained_quantized_exported_and_passes(version, tmp_path):
    module = f"book_for_a_test_{version[-1]}"
    (tmp_path / f"{module}.py").write_text(PAGE.format(imported=IMPORTS[version]))
    config = Config(
        data=DataConfig(image_size=16, train_images=800, calibration_images=64, test_images=300),
        model=ModelConfig(factory=f"{module}:build"),
        # Batch norms that forget 1 % a step need some hundred steps.
        train=TrainConfig(epochs=4, batch_size=8),
        quantize=QuantizeConfig(schemes=("int8-qat",), epochs=1, batch_size=32),
        export=ExportConfig(golden_images=4, onnx_variants=("u8u8",)),
        # What is asked is whether it goes through; 300 images cannot tell two points apart.
        validate=ValidateConfig(
            runtimes=("keras", "litert", "onnxruntime"), latency_launches=1, latency_runs=2, latency_seconds=0.2,
            max_accuracy_drop=0.1,
        ),
    )
    pipeline = Pipeline(config=config, out=tmp_path / "out", module_folder=tmp_path)
    report = pipeline.run()
    flat = tf_keras.models.load_model(pipeline.float_file, compile=False)
    assert sorted(layer.name for layer in flat.layers) == sorted(LAYERS)
    assert report.failures == ()
    assert report.verdict == "pass"
    top1 = {row.artifact: row.accuracy.top1 for row in report.rows}
    assert set(top1) == {"float.keras", "int8-qat.tflite", "int8-qat.onnx"}
    assert min(top1.values()) > 0.3  # guessing is right for 0.1
