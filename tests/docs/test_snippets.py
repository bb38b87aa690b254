"""The snippets of docs/, run as a user runs them: each must answer what edgeship answers, from the file alone."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeship.core.artifact import Manifest, Preprocessing, TensorSpec, manifest_from_json
from edgeship.core.integers import dequantize, quantize
from edgeship.data import preprocess
from edgeship.export.proof.golden import specs_and_outputs
from edgeship.validate.targets.browser_files import find_modules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PYTHON_SNIPPETS = {"tflite": "board_litert.py", "onnx": "board_onnxruntime.py"}
# A WebAssembly kernel may round an integer differently; 2 steps of 1/256.
WEB_TOLERANCE = 2 / 256


@pytest.fixture(scope="session")
def manifest(tiny_bundle: Path) -> Manifest:
    path = tiny_bundle / "manifest.json"
    return manifest_from_json(path.read_text(), where=path)


@pytest.fixture(scope="session")
def pictures(tiny_pipeline, tmp_path_factory) -> dict[str, tuple[Path, np.ndarray]]:
    """Name -> a PNG file and its pixels: test images as they are, wide, tall, and in colour."""
    folder = tmp_path_factory.mktemp("pictures")
    digits = [np.asarray(tiny_pipeline.splits.test.images[index]).reshape(8, 8) for index in range(4)]
    wide = np.pad(np.kron(digits[1], np.ones((5, 5), np.uint8)), ((0, 0), (9, 6)))
    tall = np.pad(np.kron(digits[2], np.ones((3, 3), np.uint8)), ((7, 4), (0, 0)))
    colour = np.stack([np.kron(digits[3], np.ones((4, 4), np.uint8)), np.full((32, 32), 40, np.uint8),
                       np.kron(digits[3].T, np.ones((4, 4), np.uint8))], axis=-1)
    found = {}
    for name, pixels in {"plain": digits[0], "wide": wide, "tall": tall, "colour": colour}.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
        found[name] = (folder / f"{name}.png", pixels)
    return found


def expected(folder: Path, manifest: Manifest, name: str, pixels: np.ndarray) -> tuple[str, float]:
    """edgeship's own answer: the label, and its probability."""
    (artifact,) = (artifact for artifact in manifest.artifacts if artifact.name == name)
    inputs = (preprocess([pixels], manifest.preprocessing),)
    _, (spec,), (outputs,) = specs_and_outputs(
        (folder / artifact.file).read_bytes(), format=artifact.format, inputs=inputs
    )
    probabilities = dequantize(outputs[0], spec)
    best = int(probabilities.argmax())
    return manifest.labels[best], float(probabilities[best])


def answer(child: subprocess.CompletedProcess[str]) -> tuple[str, float]:
    assert child.returncode == 0, child.stderr
    label, probability = child.stdout.strip().split("\t")
    return label, float(probability)


@pytest.mark.parametrize("name", [
    "int8-qat.tflite", "int8-ptq.tflite", "float32.tflite", "int8-qat.onnx", "int8-qat-s8s8.onnx", "float32.onnx",
])
def test_a_board_answers_as_edgeship_does(tiny_bundle, manifest, pictures, tmp_path, name):
    """The model file is alone in a folder, so that nothing but itself can tell how to use it."""
    shutil.copy(tiny_bundle / name, tmp_path / f"model{Path(name).suffix}")
    snippet = SNIPPETS / PYTHON_SNIPPETS[Path(name).suffix[1:]]
    for picture, pixels in pictures.values():
        label, probability = answer(subprocess.run(
            [sys.executable, str(snippet), f"model{Path(name).suffix}", str(picture)],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        ))
        wanted_label, wanted_probability = expected(tiny_bundle, manifest, name, pixels)
        assert (label, probability) == (wanted_label, pytest.approx(wanted_probability, abs=1e-4))


def test_boards_need_no_edgeship():
    for snippet in PYTHON_SNIPPETS.values():
        imported = set(re.findall(r"^(?:import|from) (\w+)", (SNIPPETS / snippet).read_text(), re.MULTILINE))
        assert imported <= {
            "json", "sys", "platform", "pathlib", "typing", "numpy", "PIL", "ai_edge_litert", "onnxruntime",
        }


# ONNX Runtime Web, in Node.js --------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path):
    """Runs a script of a folder that has classify.mjs and onnxruntime-web."""
    modules = find_modules()
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if modules is None or not (modules / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not there: run `edgeship setup browser` or set EDGESHIP_BROWSER_MODULES")
    shutil.copy(SNIPPETS / "classify.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600
        )

    return run


@pytest.mark.parametrize("name", ["int8-qat.onnx", "int8-qat-s8s8.onnx", "float32.onnx"])
def test_onnxruntime_web_answers_as_edgeship_does(node, tiny_bundle, manifest, pictures, tmp_path, name):
    shutil.copy(tiny_bundle / name, tmp_path / "model.onnx")
    inspected = subprocess.run(
        [sys.executable, "-m", "edgeship", "inspect", "--json", str(tmp_path / "model.onnx")],
        capture_output=True, check=True, cwd=ROOT,
    )
    (tmp_path / "model.json").write_bytes(inspected.stdout)
    for picture in ("plain", "wide", "tall"):
        pixels = pictures[picture][1]
        (tmp_path / "image.raw").write_bytes(pixels.tobytes())
        height, width = pixels.shape
        label, probability = answer(
            node("classify.mjs", "model.onnx", "model.json", "image.raw", str(width), str(height))
        )
        wanted_label, wanted_probability = expected(tiny_bundle, manifest, name, pixels)
        assert (label, probability) == (wanted_label, pytest.approx(wanted_probability, abs=WEB_TOLERANCE))


PREPARE = """
import { readFileSync, writeFileSync } from "node:fs";
import { pixelsOf, prepare } from "./classify.mjs";
const { spec, width, height } = JSON.parse(readFileSync("job.json", "utf8"));
const rgba = { data: new Uint8ClampedArray(readFileSync("image.rgba")), width, height };
writeFileSync("inputs.raw", new Uint8Array(prepare(pixelsOf(rgba, spec.channels), spec).data.buffer));
"""


RECIPES = [  # channels, mean, std, dtype, fit, antialias
    (1, (0.0,), (1.0,), "uint8", "crop", True),
    (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "int8", "stretch", True),
    (3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "uint8", "crop", False),
    (3, (0.1, 0.2, 0.3), (0.9, 0.8, 0.7), "float32", "stretch", False),
]
RECIPE = ("channels", "mean", "std", "dtype", "fit", "antialias")
SIZES = [(40, 31), (9, 20), (32, 32), (301, 224)]


@pytest.mark.parametrize(RECIPE, RECIPES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_web_prepares_the_same_numbers(
    node, tmp_path, channels, mean, std, dtype, fit, antialias, width, height
):
    """Crop, gray, resize, normalization and quantization, bit for bit, from a browser's RGBA."""
    spec, tensor, job = _recipe(channels, mean, std, dtype, fit, antialias)
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    (tmp_path / "image.rgba").write_bytes(np.dstack([rgb, np.full((height, width), 255, np.uint8)]).tobytes())
    (tmp_path / "job.json").write_text(json.dumps({"spec": job, "width": width, "height": height}))
    (tmp_path / "prepare.mjs").write_text(PREPARE)
    child = node("prepare.mjs")
    assert child.returncode == 0, child.stderr
    found = np.fromfile(tmp_path / "inputs.raw", dtype).reshape(1, 32, 32, channels)
    np.testing.assert_array_equal(found, quantize(preprocess([rgb], spec), tensor))


@pytest.mark.parametrize(RECIPE, RECIPES)
@pytest.mark.parametrize("snippet", PYTHON_SNIPPETS.values())
def test_a_board_prepares_the_same_numbers(snippet, channels, mean, std, dtype, fit, antialias):
    spec, tensor, job = _recipe(channels, mean, std, dtype, fit, antialias)
    prepare = runpy.run_path(str(SNIPPETS / snippet))["prepare"]
    for width, height in SIZES:
        rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        np.testing.assert_array_equal(
            prepare(Image.fromarray(rgb), job), quantize(preprocess([rgb], spec), tensor)
        )


def _recipe(channels, mean, std, dtype, fit, antialias) -> tuple[Preprocessing, TensorSpec, dict]:
    """A preprocessing, the tensor behind it, and both as a file's metadata say them."""
    spec = Preprocessing(
        image_size=32, channels=channels, channel_order={1: "gray", 3: "RGB"}[channels], interpolation="bilinear",
        mean=mean, std=std, fit=fit, antialias=antialias,
    )
    low, high = spec.input_range
    scale = None if dtype == "float32" else float(np.float32((high - low) / 255))
    zero_point = None if scale is None else round(np.iinfo(dtype).min - low / scale)
    tensor = TensorSpec(name="image", shape=(1, 32, 32, channels), dtype=dtype, scale=scale, zero_point=zero_point)
    return spec, tensor, {
        "image_size": 32, "channels": channels, "mean": mean, "std": std, "fit": fit, "antialias": antialias,
        "input": {"name": "image", "dtype": dtype, "scale": scale, "zero_point": zero_point},
    }


# What the documentation says ---------------------------------------------------------------------------------


def test_the_documented_json_is_what_is_written(tiny_bundle):
    """The example of docs/metadata.md has the keys that files have, in their order."""
    documented = json.loads(re.search(r"```json\n(\{.*?\n\})\n```", (DOCS / "metadata.md").read_text(), re.DOTALL)[1])
    inspected = subprocess.run(
        [sys.executable, "-m", "edgeship", "inspect", "--json", str(tiny_bundle / "int8-qat.tflite")],
        capture_output=True, check=True, cwd=ROOT,
    )
    written = json.loads(inspected.stdout)["preprocessing"]
    assert list(documented) == list(written)
    for tensor in ("input", "output"):
        assert list(documented[tensor]) == list(written[tensor])
    assert (documented["layout"], documented["resize"]) == (written["layout"], written["resize"])
    assert documented["input"]["zero_point"] == -128
    # The worked example: pixel 200 -> 72.
    real = np.float32(200) / np.float32(255) / np.float32(documented["input"]["scale"])
    assert np.rint(real) + documented["input"]["zero_point"] == 72


def test_every_snippet_is_in_the_documentation():
    text = (DOCS / "deploy.md").read_text()
    snippets = [path.name for path in SNIPPETS.iterdir() if path.is_file()]  # Python leaves a folder of byte code
    assert [name for name in snippets if f"snippets/{name}" not in text] == []
