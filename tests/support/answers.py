"""A file's own answers, image by image: the tensors as the runtime takes and gives them."""

from __future__ import annotations

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter


def tflite_answers(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs (n, ...) of a TFLite file of one input and one output, of batch 1."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for image in inputs:
        interpreter.set_tensor(entry, image[None])
        interpreter.invoke()
        answers.append(np.array(interpreter.get_tensor(result)))
    return np.concatenate(answers)


def onnx_answers(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """Return the outputs (n, ...) of an ONNX file of one input and one output, of batch 1."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in inputs])
