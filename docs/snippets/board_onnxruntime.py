"""Classify a picture with ONNX Runtime on a board, knowing nothing but the model file.

    python board_onnxruntime.py MODEL.onnx PICTURE

Of the files that lie beside it (MODEL-u8s8.onnx, MODEL-s8s8.onnx: the same integers) it takes the one that is exact on
this processor and the fastest. Needs onnxruntime, numpy and Pillow. Prints the label and its probability.
"""
# ruff: noqa: T201

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

CPUINFO = Path("/proc/cpuinfo")
# What stands behind the name of a file, by class of processor: those that are exact there, the fastest first.
FASTEST = {
    "x86-vnni": ("-u8s8", ""),
    "x86": ("",),
    "x86-sse": ("", "-u8s8"),
    "arm64-dot": ("", "-u8s8", "-s8s8"),
    "arm64-neon": ("-s8s8", "-u8s8", ""),
}
VNNI, DOT = {"avx512_vnni", "avx_vnni"}, {"asimddp", "i8mm"}
FIXED_KERNELS = (1, 28)  # older releases have wrong int8 kernels for AMX and VNNI


def processor() -> str:
    """The class of this processor, by its instructions; where they are not known, the most careful one."""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    flags = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    if platform.machine() in ("aarch64", "arm64"):
        return "arm64-dot" if flags & DOT or not flags else "arm64-neon"
    version = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    if flags and "avx2" not in flags:
        return "x86-sse"
    return "x86-vnni" if flags & VNNI and version >= FIXED_KERNELS else "x86"


def for_this_processor(model: Path) -> Path:
    """The file of the same integers that is exact on this processor and the fastest of those that are there."""
    files = (model.with_name(f"{model.stem}{end}{model.suffix}") for end in FASTEST[processor()])
    return next((file for file in files if file.exists()), model)


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
    session = onnxruntime.InferenceSession(str(for_this_processor(model)), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    spec, labels = json.loads(properties["edgeship.preprocessing"]), json.loads(properties["edgeship.labels"])
    with Image.open(picture) as opened:
        inputs = {spec["input"]["name"]: prepare(opened, spec)}
    (output,) = session.run([spec["output"]["name"]], inputs)
    probabilities = probabilities_of(output[0], spec["output"])
    best = int(probabilities.argmax())
    print(f"{labels[best]}\t{probabilities[best]:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
