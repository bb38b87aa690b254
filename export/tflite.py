"""Keras -> TFLite bytes: float32, int8 by post-training quantization, int8 from quantization-aware training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from edgeship.errors import ExportError
from edgeship.native_output import quiet_native_output
from export.tflite_names import with_stable_names

Batches = Callable[[], Iterator[np.ndarray]]


def convert_tflite(
    model: tf_keras.Model, *, scheme: str, calibration: Batches | None = None
) -> bytes:
    """Convert a flat Keras model of one input to TFLite with a fixed batch of 1 and stable tensor names.

    Args:
        model: a lowered float model ("float32", "int8-ptq"), or a fake-quantized one ("int8-qat").
        scheme: "float32", "int8-ptq" or "int8-qat". Integer files have int8 inputs and outputs.
        calibration: for "int8-ptq", a function that yields preprocessed float32 batches `(n, h, w, c)`.

    Returns:
        The file's bytes; the same weights give the same bytes, in any process.

    Raises:
        ExportError: the converter refused the model.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        _save_for_serving(model, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # The metadata would put TensorFlow's version and a hash of the graph into the file.
        converter.exclude_conversion_metadata = True
        if scheme != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        if scheme == "int8-ptq":
            if calibration is None:
                raise ExportError("int8-ptq: calibration batches are needed, found none")
            converter.representative_dataset = lambda: (
                [image[None]] for batch in calibration() for image in batch
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        try:
            with quiet_native_output():
                content: bytes = converter.convert()
        except Exception as error:
            raise ExportError(
                f"{scheme}: the TFLite converter refused the model: {str(error).splitlines()[0]}"
            ) from error
    return with_stable_names(
        content, model=model.name, inputs=model.input_names, outputs=_output_names(model)
    )


def _output_names(model: tf_keras.Model) -> list[str]:
    """The outputs' names without tfmot's prefix, so that every scheme's file has the same interface."""
    return [name.removeprefix("quant_") for name in model.output_names]


def _save_for_serving(model: tf_keras.Model, folder: Path) -> None:
    """Save one inference function of fixed batch 1.

    Only the variables are tracked, not the Keras model: saving that would trace every layer's call once more
    (measured on ResNet-34: 50 s of conversion instead of 10).
    """
    signature = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, model.input_names, strict=True)
    ]

    def serve(*images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(model(images[0] if len(images) == 1 else list(images), training=False))
        return dict(zip(_output_names(model), outputs, strict=True))

    module: Any = tf.Module()
    module.weights = list(model.variables)
    module.serve = tf.function(serve, input_signature=signature)
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())
