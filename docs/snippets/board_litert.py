"""Classify a picture with LiteRT on a board, knowing nothing but the model file.

    python board_litert.py MODEL.tflite PICTURE

Needs ai-edge-litert, numpy and Pillow. Prints the label and its probability.
"""
# ruff: noqa: T201

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def read_metadata(content: bytes) -> tuple[dict[str, Any], list[str]]:
    """The preprocessing and the labels that the model carries (docs/metadata.md)."""
    model = schema.Model.GetRootAs(content)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    texts = {entry.Name(): bytes(model.Buffers(entry.Buffer()).DataAsNumpy()) for entry in entries}
    return json.loads(texts[b"edgeship.preprocessing"]), json.loads(texts[b"edgeship.labels"])


def prepare(picture: Image.Image, spec: dict[str, Any]) -> np.ndarray:
    """A picture of any size -> the model's input."""
    picture = picture.convert("RGB" if spec["channels"] == 3 else "L")
    if spec["fit"] == "crop":  # otherwise the whole picture is stretched
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    size = spec["image_size"]
    if spec["antialias"]:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    for axis in (1, 0):
        pixels = nearest_two(pixels, size, axis)  # changes nothing where the size is right already
    pixels = pixels.astype(np.float32).reshape(1, size, size, spec["channels"])
    values = (pixels / 255 - np.float32(spec["mean"])) / np.float32(spec["std"])
    return quantize(values, spec["input"])


def nearest_two(pixels: np.ndarray, size: int, axis: int) -> np.ndarray:
    """TensorFlow's bilinear filter along one axis: a mean of the two nearest pixels, rounded to 8 bits."""
    length, one = pixels.shape[axis], 1 << 22
    center = (np.arange(size) + 0.5) * length / size - 0.5
    first = np.floor(center).astype(int)
    low, high = (pixels.take(np.clip(at, 0, length - 1), axis=axis) for at in (first, first + 1))
    weight = np.floor((center - first) * one + 0.5).astype(int).reshape(-1, *[1] * (pixels.ndim - 1 - axis))
    return ((low * (one - weight) + high * weight + one // 2) >> 22).astype(np.uint8)


def quantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """float32 -> the tensor's integers; a float tensor takes the values as they are."""
    if tensor["scale"] is None:
        return values
    limits = np.iinfo(tensor["dtype"])
    integers = np.rint(values / np.float32(tensor["scale"])) + tensor["zero_point"]
    return np.clip(integers, limits.min, limits.max).astype(tensor["dtype"])


def probabilities_of(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """The output's integers, floats or logits -> float32 probabilities."""
    if tensor["scale"] is not None:
        values = (values.astype(np.float32) - tensor["zero_point"]) * np.float32(tensor["scale"])
    if tensor["values"] == "logits":
        values = np.exp(values - values.max())
        values = values / values.sum()
    return values


def main(model: Path, picture: Path) -> None:
    """Read, prepare, run, print."""
    content = model.read_bytes()
    spec, labels = read_metadata(content)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    with Image.open(picture) as opened:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], prepare(opened, spec))
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    probabilities = probabilities_of(output[0], spec["output"])
    best = int(probabilities.argmax())
    print(f"{labels[best]}\t{probabilities[best]:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
