"""One family measured: what is lowered, what is int8 in the files, what the runtimes execute, whether they agree."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from benchmarks.networks import families
from benchmarks.networks.images import answers_of, inputs_of, largest_pixel, outputs_of
from edgeship.core.measurement import Coverage
from edgeship.export.checks import check_onnx, check_tflite, quantized_layers
from edgeship.export.onnx.convert import convert_onnx
from edgeship.export.tflite.convert import convert_tflite, layer_names
from edgeship.graph import Graph, Operation, read_tflite
from edgeship.quantize.insert import QuantizedModel, insert_fake_quantization
from edgeship.quantize.lowering.lower import lower
from edgeship.quantize.prepare import calibrate, finish
from edgeship.validate.questions.coverage import coverage_of_profile

SCHEME, VARIANT = "int8-ptq", "u8u8"
CALIBRATION_IMAGES, COMPARED_IMAGES, SEED = 40, 60, 6
INTEGERS = ("int8", "int32")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one family came to."""

    name: str
    layers: int  # of the lowered network
    float_difference: float  # the largest, between the model and the lowered network
    expected: tuple[str, ...]  # layers whose kernels must be int8
    added: int  # of these, products with constants
    found: tuple[str, ...]  # layers whose kernels are int8 in the TFLite file
    float_operations: tuple[str, ...]  # of the TFLite file
    executed: Coverage  # by ONNX Runtime
    agreement: float  # share of answers (images x outputs) with the same top-1 in both files
    fidelity: float  # the same between the fake-quantized Keras model and the TFLite file
    top1: tuple[float, float, float]  # share of answers that are the image's kind: float model, TFLite file, ONNX file

    @property
    def fully_integer(self) -> bool:
        return not self.float_operations


def measure(name: str) -> Row:
    """Take one family through the whole way: lower, quantize by calibration, export, run both files."""
    model = families.build(name)
    flat = lower(model)
    quantized = quantize(flat)
    tflite = convert_tflite(quantized.model, scheme=SCHEME)
    names = layer_names(quantized.model)
    check_tflite(tflite, name=f"{name}.tflite", scheme=SCHEME, layers=names)
    onnx = convert_onnx(tflite, variant=VARIANT)
    check_onnx(onnx, name=f"{name}.onnx", activations="uint8", weights="uint8")
    graph = read_tflite(tflite, where=Path(name))
    codes, largest = codes_of(flat), largest_pixel(flat)
    from_onnx, executed = _ask_onnx(onnx, codes)
    from_tflite = _ask_tflite(tflite, codes)
    wanted = _wanted(model)
    return Row(
        name=name, layers=len(flat.layers), float_difference=float_difference(model, flat),
        expected=quantized.account.expected, added=len(quantized.account.added),
        found=quantized_layers(tflite, name=name, layers=names),
        float_operations=tuple(operation.name for operation in graph.operations if _has_float(graph, operation)),
        executed=executed,
        agreement=_agreement(from_onnx, from_tflite),
        fidelity=_agreement(_ask_keras(quantized.model, codes, largest=largest), from_tflite),
        top1=(
            _agreement(_ask_keras(flat, codes, largest=largest), wanted),
            _agreement(from_tflite, wanted),
            _agreement(from_onnx, wanted),
        ),
    )


def _has_float(graph: Graph, operation: Operation) -> bool:
    tensors = [name for name in (*operation.inputs, *operation.outputs) if name]
    return any(graph.tensors[name].dtype not in INTEGERS for name in tensors)


def quantize(flat: tf_keras.Model) -> QuantizedModel:
    """Post-training quantization on the family's own images."""
    span = (0.0, largest_pixel(flat))
    quantized = insert_fake_quantization(flat, input_ranges=[span] * len(flat.inputs))
    calibrate(quantized, [inputs_of(flat, CALIBRATION_IMAGES, seed=3)], method="min-max")
    finish(quantized)
    return quantized


def float_difference(model: tf_keras.Model, flat: tf_keras.Model) -> float:
    """The largest difference between the outputs of two models on images and on noise; 0 is bit for bit."""
    images = inputs_of(flat, 4, seed=4)
    noise = tf.nest.map_structure(lambda x: np.random.default_rng(5).normal(size=x.shape).astype(np.float32), images)
    differences = []
    for batch in (images, noise):
        outputs = (tf.nest.flatten(network(batch, training=False)) for network in (model, flat))
        differences += [np.max(np.abs(one - other)) for one, other in zip(*outputs, strict=True)]
    return float(max(differences))


def codes_of(flat: tf_keras.Model) -> dict[str, np.ndarray]:
    """Images as uint8 by input name: the codes of an input whose range they fill."""
    images = inputs_of(flat, COMPARED_IMAGES, seed=SEED)
    arrays = images if isinstance(images, list) else [images]
    return {
        name: np.rint(array * 255 / largest_pixel(flat)).astype(np.uint8)
        for name, array in zip(flat.input_names, arrays, strict=True)
    }


def _wanted(model: tf_keras.Model) -> list[int]:
    """The right answers in the order of the others: image by image, output by output, position by position."""
    outputs = sorted(model.output.items()) if isinstance(model.output, dict) else [("", model.output)]
    images = inputs_of(model, COMPARED_IMAGES, seed=SEED)
    return [int(item) for item in np.hstack([answers_of(one.shape, images) for _, one in outputs]).reshape(-1)]


def _agreement(first: list[int], second: list[int]) -> float:
    return float(np.mean(np.equal(first, second)))


def _ask_onnx(content: bytes, codes: dict[str, np.ndarray]) -> tuple[list[int], Coverage]:
    """(the answers, output by output; what the first inference executed)."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/trace"
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        session.run(None, {name: values[:1] for name, values in codes.items()})
        coverage, _ = coverage_of_profile(json.loads(Path(session.end_profiling()).read_text()))
    names = sorted(output.name for output in session.get_outputs())
    answers = [
        session.run(names, {name: values[index : index + 1] for name, values in codes.items()})
        for index in range(COMPARED_IMAGES)
    ]
    return [int(np.argmax(row)) for image in answers for output in image for row in _rows(output)], coverage


def _ask_keras(model: tf_keras.Model, codes: dict[str, np.ndarray], *, largest: float) -> list[int]:
    images = [values.astype(np.float32) * np.float32(largest / 255) for values in codes.values()]
    outputs = outputs_of(model, images[0] if len(images) == 1 else images)
    if isinstance(outputs, dict):
        outputs = [outputs[name] for name in sorted(outputs)]
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [int(np.argmax(row)) for image in zip(*outputs, strict=True) for output in image for row in _rows(output)]


def _ask_tflite(content: bytes, codes: dict[str, np.ndarray]) -> list[int]:
    runner = Interpreter(model_content=content).get_signature_runner()
    found = []
    for index in range(COMPARED_IMAGES):
        image = {
            name: (values[index : index + 1].astype(np.int16) - 128).astype(np.int8) for name, values in codes.items()
        }
        outputs = runner(**image)
        found += [int(np.argmax(row)) for name in sorted(outputs) for row in _rows(outputs[name])]
    return found


def _rows(output: np.ndarray) -> np.ndarray:
    return output.reshape(-1, output.shape[-1])
