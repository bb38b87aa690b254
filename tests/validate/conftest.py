"""A tiny but real bundle: a trained two-convolution network as float Keras, int8 TFLite and uint8 ONNX."""

from __future__ import annotations

import dataclasses
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.artifact import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    Artifact,
    Manifest,
    Preprocessing,
    Quantization,
    Reference,
    TensorSpec,
    manifest_from_json,
    manifest_to_json,
)
from edgeship.core.config import ValidateConfig
from edgeship.core.cpu import processor_identity
from edgeship.core.files import sha256_of_file
from edgeship.data import Images, preprocess, split_sha256
from edgeship.graph import read_graph

SIZE, CLASSES, TEST_IMAGES, GOLDEN_IMAGES = 8, 3, 90, 6
PREPROCESSING = Preprocessing(
    image_size=SIZE, channels=1, channel_order="gray", interpolation="bilinear", mean=(0.5,), std=(0.5,)
)
FAST = ValidateConfig(
    runtimes=("litert", "litert-reference", "onnxruntime", "onnxruntime-unoptimized"),
    latency_launches=1, latency_runs=10, latency_seconds=0.5, timeout_seconds=60, max_accuracy_drop=0.2,
)


def textures(count: int, seed: int) -> Images:
    """Noisy horizontal stripes, vertical stripes and checkerboards: what a small network learns in a second."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    rows, columns = np.indices((SIZE, SIZE)) % 2
    patterns = np.stack([rows, columns, rows ^ columns]) * 200
    noise = random.integers(0, 56, (count, SIZE, SIZE))
    return Images((patterns[labels] + noise).astype(np.uint8), labels.astype(np.int64))


@pytest.fixture(scope="session")
def test_images() -> Images:
    return textures(TEST_IMAGES, seed=1)


@pytest.fixture(scope="session")
def master_bundle(tmp_path_factory: pytest.TempPathFactory, test_images: Images) -> Path:
    """Built once; tests that change something take `bundle_folder`, a copy."""
    folder = tmp_path_factory.mktemp("bundle")
    float_model = _train(folder)
    (folder / "int8.tflite").write_bytes(_quantize(float_model))
    (folder / "int8.onnx").write_bytes(_to_onnx(folder / "int8.tflite"))
    _write_golden(folder, float_model, test_images)
    write_manifest(folder, test_images)
    return folder


@pytest.fixture(scope="session")
def two_ends_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a picture and four numbers, which gives two scores and a map; made as users make bundles."""
    import tf_keras

    import edgeship

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    picture, numbers = tf_keras.Input((6, 10, 2), name="z_picture"), tf_keras.Input((4,), name="a_numbers")
    features = layers.Conv2D(8, 3, padding="same", activation="relu", name="features")(picture)
    both = layers.Concatenate(name="both")([
        layers.GlobalAveragePooling2D(name="mean")(features),
        layers.Dense(8, activation="relu", name="hidden")(numbers),
    ])
    model = tf_keras.Model(
        [picture, numbers], [layers.Dense(2, name="scores")(both), layers.Conv2D(1, 1, name="a_map")(features)]
    )
    generator = np.random.default_rng(0)
    calibration = [generator.uniform(-1, 1, (40, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    # The numbers' range is a thousand times what they take: their integers are noise before any layer reads them.
    quantized = edgeship.quantize_model(model, calibration, input_ranges=[(-1, 1), (-1000, 1000)])
    return quantized.export(tmp_path_factory.mktemp("two-ends") / "bundle", onnx_variants=("u8u8",)).folder


@pytest.fixture
def bundle_folder(master_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master_bundle, tmp_path / "bundle"))


@pytest.fixture
def fast() -> ValidateConfig:
    return FAST


@pytest.fixture
def resign() -> Any:
    """Make the manifest's hashes match files that a test has changed on purpose."""
    def resign_folder(folder: Path) -> None:
        manifest = manifest_from_json((folder / MANIFEST_FILE).read_text(), where=folder)
        artifacts = tuple(
            dataclasses.replace(item, sha256=sha256_of_file(folder / item.file)) for item in manifest.artifacts
        )
        golden = sha256_of_file(folder / GOLDEN_FILE)
        (folder / MANIFEST_FILE).write_text(manifest_to_json(
            dataclasses.replace(manifest, artifacts=artifacts, golden_sha256=golden)
        ))
    return resign_folder


def write_manifest(folder: Path, test: Images) -> None:
    """Two artifacts on one grid, and the float reference."""
    image, probabilities = _specs(folder / "int8.tflite")
    artifacts = [
        _artifact(folder / "int8.tflite", image, probabilities, None),
        _artifact(folder / "int8.onnx", _as_uint8(image), _as_uint8(probabilities), "int8.tflite"),
    ]
    (folder / MANIFEST_FILE).write_text(manifest_to_json(Manifest(
        schema=MANIFEST_SCHEMA, created_by="edgeship test", source={}, data={},
        splits={"test": {"images": len(test), "sha256": split_sha256(test)}},
        preprocessing=PREPROCESSING, labels=("rows", "columns", "checks"),
        reference=Reference(
            file="float.keras", sha256=sha256_of_file(folder / "float.keras"), custom_objects=()
        ),
        golden_sha256=sha256_of_file(folder / GOLDEN_FILE), artifacts=tuple(artifacts),
        quantization={"int8-ptq": Quantization(
            kept_float=(), weights_expected=3, weights_quantized=3, weight_bits=8
        )},
        tools={name: metadata.version(name) for name in ("ai-edge-litert", "onnxruntime")},
        exported_on=processor_identity(),
    )))


def _train(folder: Path) -> Any:
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((SIZE, SIZE, 1), batch_size=None),
        layers.Conv2D(8, 3, padding="same", activation="relu"),
        layers.Conv2D(8, 3, padding="same", activation="relu", strides=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(CLASSES, activation="softmax"),
    ])
    model.compile(tf_keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    train = textures(240, seed=0)
    model.fit(preprocess(train.images, PREPROCESSING), train.labels, batch_size=32, epochs=6, verbose=0)
    model.save(folder / "float.keras")
    return model


def _quantize(model: Any) -> bytes:
    import tensorflow as tf
    import tf_keras

    fixed = tf_keras.Sequential([tf_keras.layers.Input((SIZE, SIZE, 1), batch_size=1), *model.layers])
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = preprocess(textures(60, seed=0).images, PREPROCESSING)
    converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def _write_golden(folder: Path, model: Any, test: Images) -> None:
    from ai_edge_litert.interpreter import Interpreter

    from edgeship.core.integers import quantize

    values = preprocess(test.images, PREPROCESSING)
    float_outputs = model.predict(values, verbose=0)
    image, _ = _specs(folder / "int8.tflite")
    interpreter = Interpreter(str(folder / "int8.tflite"))
    interpreter.allocate_tensors()
    outputs = []
    for value in values[:GOLDEN_IMAGES]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], quantize(value[None], image))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    int8_outputs = np.concatenate(outputs)
    np.savez(folder / GOLDEN_FILE, **{
        "inputs": values[:GOLDEN_IMAGES], "float_outputs": float_outputs[:GOLDEN_IMAGES],
        "test_float_top1": float_outputs.argmax(axis=1).astype(np.int64),
        "expected/int8.tflite": int8_outputs,
        "expected/int8.onnx": _run_onnx(folder / "int8.onnx", values[:GOLDEN_IMAGES], image),
    })


def _run_onnx(path: Path, values: np.ndarray, image: TensorSpec) -> np.ndarray:
    import onnxruntime

    from edgeship.core.integers import quantize

    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: quantize(value[None], _as_uint8(image))})[0] for value in values])


def _specs(path: Path) -> tuple[TensorSpec, TensorSpec]:
    graph = read_graph(path)
    image, probabilities = (
        TensorSpec(
            name=name, shape=graph.tensors[name].shape, dtype="int8",
            scale=float(graph.tensors[name].scales[0]), zero_point=int(graph.tensors[name].zero_points[0]),
        )
        for name in (graph.inputs[0], graph.outputs[0])
    )
    return image, probabilities


def _as_uint8(spec: TensorSpec) -> TensorSpec:
    return dataclasses.replace(spec, dtype="uint8", zero_point=spec.zero_point + 128)


def _artifact(path: Path, image: TensorSpec, probabilities: TensorSpec, same_grid_as: str | None) -> Artifact:
    return Artifact(
        name=path.name, file=path.name, format=path.suffix[1:], scheme="int8-ptq", sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size, inputs=(image,), outputs=(probabilities,), same_grid_as=same_grid_as,
    )


def _to_onnx(path: Path) -> bytes:
    """The same integers as quantize-dequantize ONNX, all uint8; only the operations of the network above."""
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = read_graph(path)
    nodes: list[Any] = []
    constants: dict[str, np.ndarray] = {}

    def constant(name: str, values: Any) -> str:
        constants[name] = np.asarray(values)
        return name

    def grid(name: str) -> list[str]:
        """Scale and zero point of a tensor; int32 biases stay signed, everything else becomes uint8."""
        tensor = graph.tensors[name]
        per_channel = tensor.scales.size > 1
        scales = tensor.scales if per_channel else tensor.scales[0]
        bias = tensor.dtype == "int32"
        zeros = (tensor.zero_points + (0 if bias else 128)).astype(np.int32 if bias else np.uint8)
        return [constant(f"{name}/scale", scales), constant(f"{name}/zero", zeros if per_channel else zeros[0])]

    def dequantize(name: str, data: np.ndarray | None = None) -> str:
        if data is not None:
            shifted = data if data.dtype == np.int32 else (data.astype(np.int16) + 128).astype(np.uint8)
            constant(name, shifted)
        nodes.append(helper.make_node(
            "DequantizeLinear", [first_layout(name), *grid(name)], [f"{name}/float"], axis=0
        ))
        return f"{name}/float"

    def first_layout(name: str) -> str:
        """The image is NHWC, everything after it NCHW."""
        if name != graph.inputs[0]:
            return name
        nodes.append(helper.make_node("Transpose", [name], [f"{name}/first"], perm=(0, 3, 1, 2)))
        return f"{name}/first"

    def quantize(value: str, name: str) -> None:
        nodes.append(helper.make_node("QuantizeLinear", [value, *grid(name)], [name]))

    for operation in graph.operations:
        output = operation.outputs[0]
        value = dequantize(operation.inputs[0])
        if operation.kind == "CONV_2D":
            stride = operation.attributes["stride_w"]
            weights = dequantize(operation.inputs[1], graph.tensors[operation.inputs[1]].data.transpose(0, 3, 1, 2))
            bias = dequantize(operation.inputs[2], graph.tensors[operation.inputs[2]].data)
            pads = (1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1)  # TensorFlow's SAME
            nodes.append(helper.make_node(
                "Conv", [value, weights, bias], [f"{output}/conv"], pads=pads, strides=(stride, stride)
            ))
            nodes.append(helper.make_node("Relu", [f"{output}/conv"], [f"{output}/relu"]))
            quantize(f"{output}/relu", output)
        elif operation.kind == "MEAN":
            nodes.append(helper.make_node("GlobalAveragePool", [value], [f"{output}/mean"]))
            nodes.append(helper.make_node("QuantizeLinear", [f"{output}/mean", *grid(output)], [f"{output}/4d"]))
            axes = constant(f"{output}/axes", np.array([2, 3]))
            nodes.append(helper.make_node("Squeeze", [f"{output}/4d", axes], [output]))
        elif operation.kind == "FULLY_CONNECTED":
            weights = dequantize(operation.inputs[1], graph.tensors[operation.inputs[1]].data)
            bias = dequantize(operation.inputs[2], graph.tensors[operation.inputs[2]].data)
            nodes.append(helper.make_node("Gemm", [value, weights, bias], [f"{output}/dense"], transB=1))
            quantize(f"{output}/dense", output)
        elif operation.kind == "SOFTMAX":
            nodes.append(helper.make_node("Softmax", [value], [f"{output}/softmax"], axis=1))
            quantize(f"{output}/softmax", output)
        else:
            raise NotImplementedError(operation.kind)
    model = helper.make_model(
        helper.make_graph(
            nodes, "tiny",
            [helper.make_tensor_value_info(graph.inputs[0], TensorProto.UINT8, (1, SIZE, SIZE, 1))],
            [helper.make_tensor_value_info(graph.outputs[0], TensorProto.UINT8, (1, CLASSES))],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
