"""Keras -> TFLite bytes by the converter: float32, int8 from fake quantization, int16 activations by calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras

from edgeship.core.errors import ExportError
from edgeship.core.layer_names import layer_name
from edgeship.core.native_output import quiet_native_output
from edgeship.core.schemes import CALIBRATION, FAKE_QUANTIZED, SCHEMES
from edgeship.data.examples import Batch
from edgeship.export.tflite.direct_products import direct_products
from edgeship.export.tflite.names import SIGNATURE_INPUT, SIGNATURE_OUTPUT, with_stable_names
from edgeship.export.tflite.rounding import rounding_layers
from edgeship.export.tflite.unit_scales import dense_units, kernels_in_float, with_unit_scales

Batches = Callable[[], Iterator[Batch]]


def convert_tflite(
    model: tf_keras.Model, *, scheme: str = "float32", calibration: Batches | None = None
) -> bytes:
    """Convert a flat Keras model to TFLite with a fixed batch of 1 and stable tensor names.

    Args:
        model: a lowered float model, or a fake-quantized one, whichever the scheme starts from.
        scheme: one that the converter itself makes: "float32", "int16x8-ptq" (whose inputs and outputs are int16), or
            any from fake quantization (int8 inputs and outputs).
        calibration: for "int16x8-ptq", a function that yields batches, one array per input of the model.

    Returns:
        The file's bytes; the same weights give the same bytes, in any process.

    Raises:
        ExportError: the converter refused the model.
    """
    made = SCHEMES[scheme]
    with kernels_in_float(model):
        function, variables = _serving_function(model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], variables)
    # The metadata would put TensorFlow's version and a hash of the graph into the file.
    converter.exclude_conversion_metadata = True
    if made.source == FAKE_QUANTIZED:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    elif made.activations == "int16":
        _calibrate_int16(converter, calibration, scheme=scheme)
    try:
        with quiet_native_output():
            content: bytes = converter.convert()
    except Exception as error:
        raise ExportError(
            f"{scheme}: the TFLite converter refused the model: {str(error).splitlines()[0]}"
        ) from error
    layers = layer_names(model)
    content = with_stable_names(
        content, model=model.name, layers=layers, inputs=model.input_names, outputs=_output_names(model)
    )
    return with_unit_scales(content, dense_units(model) if made.source == FAKE_QUANTIZED else {}, layers=layers)


def layer_names(model: tf_keras.Model) -> frozenset[str]:
    """The layers of a flat model as its files call them: without the prefix of wrapped ones."""
    return frozenset(layer_name(layer.name) for layer in model.layers)


def rounded_layers(model: tf_keras.Model) -> frozenset[str]:
    """The layers of a fake-quantized model whose results are rounded to a grid, under the names of `layer_names`."""
    found: set[str] = set()
    for layer in rounding_layers(model):
        for node in layer.inbound_nodes:
            found |= {layer_name(source.name) for source in tf.nest.flatten(node.inbound_layers)}
    return frozenset(found)


def _calibrate_int16(converter: Any, calibration: Batches | None, *, scheme: str) -> None:
    """Post-training ranges by the converter itself, which has this scheme only so."""
    if calibration is None:
        raise ExportError(f"{scheme}: {CALIBRATION} are needed, found none")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int16
    converter.representative_dataset = lambda: (
        [array[place : place + 1] for array in batch] for batch in calibration() for place in range(len(batch[0]))
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]


def _output_names(model: tf_keras.Model) -> list[str]:
    """The outputs' names without tfmot's prefix, so that every scheme's file has the same interface."""
    return [layer_name(name) for name in model.output_names]


def _serving_function(model: tf_keras.Model) -> tuple[Any, Any]:
    """Return one inference function of fixed batch 1, and a module of its variables.

    The function's arguments and results have names of its own: the model's may be none that Python allows. The module
    holds the variables alone: the converter traces every function once more that it finds in a module, and the call of
    every layer of a Keras model (measured on ResNet-34: 50 s of conversion instead of 10).
    """
    signature = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=SIGNATURE_INPUT.format(place))
        for place, tensor in enumerate(model.inputs)
    ]

    def serve(*images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(model(images[0] if len(images) == 1 else list(images), training=False))
        return {SIGNATURE_OUTPUT.format(place): output for place, output in enumerate(outputs)}

    with direct_products(model):
        function = tf.function(serve, input_signature=signature).get_concrete_function()
    module: Any = tf.Module()
    module.weights = list(model.variables)
    return function, module
