"""Export proves what it writes: each way to write a wrong file, done on purpose, ends with an error and no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import tf_keras
from onnx import numpy_helper
from tf_keras import layers

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config, ExportConfig, QuantizeConfig
from edgeship.core.errors import ExportError
from edgeship.export import onnx_passes as passes
from edgeship.export.files import export_files
from edgeship.export.onnx_passes.editing import replace_array
from edgeship.export.proof.exported import Exported
from edgeship.export.samples import samples_of_images
from edgeship.model import flat_layers
from edgeship.model.prepared import Prepared
from edgeship.quantize.insert import QuantizedModel
from edgeship.quantize.prepare import finish, prepare, seed_ranges

Mutation = Callable[[onnx.ModelProto], None]


def network(size: int, channels: int, classes: int) -> tf_keras.Model:
    """Two convolutions of equal and square kernels, padding with zeros and with a value, a dense layer on each rank."""
    tf_keras.utils.set_random_seed(4)

    def options(seed: int) -> dict[str, Any]:
        return {"bias_initializer": tf_keras.initializers.RandomNormal(0.2, 0.3, seed=seed)}

    x = image = layers.Input((size, size, channels), name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="relu", padding="same", name="stem", **options(1))(x)
    x = layers.Conv2D(8, 3, activation="relu", name="one", **options(2))(layers.ZeroPadding2D(1, name="around")(x))
    x = layers.Conv2D(8, 3, activation="relu", padding="same", name="two", **options(3))(x)
    x = layers.MaxPooling2D(2, name="pool")(flat_layers.Pad([(0, 0), (0, 0), (0, 0), (0, 2)], name="channels")(x))
    x = layers.Flatten(name="flat")(layers.Dense(6, activation="relu", name="pixels", **options(4))(x))
    x = layers.Dense(classes, activation="softmax", name="probabilities", **options(5))(x)
    return tf_keras.Model(image, x, name="subject")


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    return dataclasses.replace(
        tiny_config, quantize=QuantizeConfig(schemes=("float32", "int8-ptq")),
        export=ExportConfig(golden_images=8, onnx_variants=("u8u8",)),
    )


@pytest.fixture(scope="module")
def subject(tiny_pipeline: Pipeline, config: Config) -> tuple[tf_keras.Model, QuantizedModel]:
    flat = network(config.data.image_size, config.data.channels, len(tiny_pipeline.splits.labels))
    quantized = prepare(flat, spec=tiny_pipeline.spec, config=config.quantize)
    seed_ranges(quantized, tiny_pipeline.splits.calibration, spec=tiny_pipeline.spec, method="min-max")
    finish(quantized)
    return flat, quantized


@pytest.fixture
def export_subject(
    subject: tuple[tf_keras.Model, QuantizedModel], tiny_pipeline: Pipeline, config: Config
) -> Callable[[], Exported]:
    flat, quantized = subject

    def export() -> Exported:
        return export_files(
            [Prepared(scheme="float32", model=flat), quantized.prepared("int8-ptq")],
            samples=samples_of_images(
                tiny_pipeline.splits, spec=tiny_pipeline.spec, golden_images=config.export.golden_images
            ),
            config=config, spec=tiny_pipeline.spec, labels=tiny_pipeline.splits.labels,
        )

    return export


@pytest.fixture
def mutated(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, Mutation], None]:
    """Add a pass behind all passes of a variant (None: of float files)."""

    def add(variant: str | None, mutation: Mutation) -> None:
        monkeypatch.setitem(passes.VARIANTS, variant, (*passes.VARIANTS[variant], mutation))

    return add


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def node_of(model: onnx.ModelProto, kind: str, place: int = 0) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == kind][place]


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    def mutation(model: onnx.ModelProto) -> None:
        tensor = constant(model, name)
        values = numpy_helper.to_array(tensor)
        replace_array(tensor, change(values).astype(values.dtype))

    return mutation


def dequantizer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] == name)


def drop_bias(kind: str, place: int) -> Mutation:
    def mutation(model: onnx.ModelProto) -> None:
        del node_of(model, kind, place).input[2:]

    return mutation


def swap_channel_scales(model: onnx.ModelProto) -> None:
    tensor = constant(model, dequantizer(model, "one/kernel").input[1])
    scales = numpy_helper.to_array(tensor).copy()
    scales[[0, 1]] = scales[[1, 0]]
    replace_array(tensor, scales)


def swap_activation_scales(model: onnx.ModelProto) -> None:
    """The grid of one tensor for the other's, wherever it is written or read."""
    names = {name: dequantizer(model, name).input[1] for name in ("stem", "one")}
    scales = {name: numpy_helper.to_array(constant(model, scale)) for name, scale in names.items()}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            tensor = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
            if tensor in scales:
                replace_array(constant(model, node.input[1]), scales["stem" if tensor == "one" else "one"])


def swap_kernels(model: onnx.ModelProto) -> None:
    first, second = (constant(model, name) for name in ("one/kernel", "two/kernel"))
    values = numpy_helper.to_array(first), numpy_helper.to_array(second)
    replace_array(first, values[1])
    replace_array(second, values[0])


def shift_zero_point(model: onnx.ModelProto) -> None:
    """Of one tensor, wherever it is written or read."""
    for node in model.graph.node:
        tensor = {"QuantizeLinear": node.output[0], "DequantizeLinear": node.input[0]}.get(node.op_type)
        if tensor == "one":
            zero_point = constant(model, node.input[2])
            replace_array(zero_point, numpy_helper.to_array(zero_point) + np.uint8(3))


def pad_with_another_value(model: onnx.ModelProto) -> None:
    pad = node_of(model, "Pad")
    replace_array(constant(model, pad.input[2]), numpy_helper.to_array(constant(model, pad.input[2])) + np.uint8(90))


def pad_elsewhere(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for item in node.attribute:
            if item.name == "pads" and list(item.ints) == [1, 1, 1, 1]:
                item.ints[:] = [0, 2, 2, 0]


WRONG_INTEGERS: dict[str, Mutation] = {
    "a convolution's bias dropped": drop_bias("Conv", 1),
    "a dense layer's bias dropped": drop_bias("Gemm", 0),
    "the last bias dropped": drop_bias("Gemm", -1),
    "two channels' scales swapped": swap_channel_scales,
    "two tensors' scales swapped": swap_activation_scales,
    "a kernel transposed": changed("one/kernel", lambda kernel: kernel.transpose(0, 1, 3, 2)),
    "input and output channels exchanged": changed("one/kernel", lambda kernel: kernel.transpose(1, 0, 2, 3)),
    "two kernels exchanged": swap_kernels,
    "a zero point shifted": shift_zero_point,
    "a bias rounded the wrong way": changed("two/bias", lambda bias: bias - 1),
    "padded with another value": pad_with_another_value,
    "padded on one side": pad_elsewhere,
}
WRONG_FLOATS: dict[str, Mutation] = {
    "a convolution's bias dropped": drop_bias("Conv", 1),
    "a dense layer's bias dropped": drop_bias("Gemm", 0),
    "padded on one side": pad_elsewhere,
    "one weight in a thousand changed": changed(
        "one/kernel", lambda kernel: kernel + (np.arange(kernel.size) % 577 == 5).reshape(kernel.shape) * 0.01
    ),
}


def test_right_files_pass(export_subject: Callable[[], Exported]) -> None:
    exported = export_subject()
    assert [file.name for file in exported.files] == [
        "float32.tflite", "float32.onnx", "int8-ptq.tflite", "int8-ptq.onnx",
    ]
    assert all(file.golden_outputs is not None and len(file.golden_outputs[0]) == 8 for file in exported.files)


@pytest.mark.parametrize("mutation", WRONG_INTEGERS)
def test_a_wrong_integer_file_is_an_error(
    mutation: str, mutated: Callable[[str | None, Mutation], None], export_subject: Callable[[], Exported]
) -> None:
    mutated("u8u8", WRONG_INTEGERS[mutation])
    with pytest.raises(ExportError, match=r"int8-ptq\.onnx: "):
        export_subject()


@pytest.mark.parametrize("mutation", WRONG_FLOATS)
def test_a_wrong_float_file_is_an_error_with_the_first_bad_layer(
    mutation: str, mutated: Callable[[str | None, Mutation], None], export_subject: Callable[[], Exported]
) -> None:
    mutated(None, WRONG_FLOATS[mutation])
    with pytest.raises(ExportError, match=r"float32\.onnx: it does not compute what the Keras model computes: .* dB"):
        export_subject()
