"""configs/imagenet_pretrained.toml from end to end, on a small folder of drawn pictures and a narrow checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, ImageDraw

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.config import Config
from edgeship.core.config_file import load_config
from edgeship.data import preprocess, preprocessing_of
from edgeship.graph import read_onnx, read_tflite
from edgeship.inspect.inspection import inspect_file
from edgeship.model.build import load_model
from tests.support.torch_files import save_zip, state_dict
from tests.support.torch_resnet import torch_logits, torch_state

SIZE = 224
CLASSES = ("n01", "n02", "n03", "n04")
PER_CLASS = {"train": 12, "val": 6}
# Narrower (8) and at 224x224, oneDNN in TensorFlow 2.21 corrupts memory when it trains (AVX-512).
NETWORK = {"stage_sizes": (1, 1, 1, 1), "width": 16}
FEATURES = 128
LOGIT = 8.0  # what the classifier is fitted to for the right class, the others to 0
PADS = 5  # stem, pooling, and the first unit of each stage but the first
PUBLISHED = Path(__file__).parents[2] / "configs" / "imagenet_pretrained.toml"


def draw(label: int, generator: np.random.Generator) -> Image.Image:
    """A shape and colour for each class, in an unquiet background; higher than wide, as photographs are."""
    background = generator.integers(90, 160, (SIZE // 8 + 4, SIZE // 8, 3), np.uint8)
    picture = Image.fromarray(background).resize((SIZE, SIZE + 32), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    left, top = (int(number) for number in generator.integers(20, 80, 2))
    box = (left, top + 16, left + 110, top + 126)
    colour = [(220, 40, 40), (40, 200, 60), (50, 80, 230), (240, 220, 60)][label]
    (pen.ellipse if label % 2 else pen.rectangle)(box, fill=colour, outline=(0, 0, 0), width=4)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, generator = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in PER_CLASS.items():
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                draw(label, generator).save(root / split / name / f"{number:03}.JPEG", quality=92)
    return root


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, np.ndarray]:
    """Random features, and a classifier fitted to them, so that accuracy and agreement mean something."""
    features = {**torch_state(**NETWORK, classes=1), "fc.weight": np.eye(FEATURES, dtype=np.float32)}
    features["fc.bias"] = np.zeros(FEATURES, np.float32)
    config = load_config(PUBLISHED).data
    pictures = [np.asarray(Image.open(path)) for path in sorted((folder / "train").glob("*/*.JPEG"))]
    seen = torch_logits(features, preprocess(pictures, preprocessing_of(config)))
    seen = np.concatenate([seen, np.ones((len(seen), 1))], axis=1)
    wanted = LOGIT * np.repeat(np.eye(len(CLASSES)), PER_CLASS["train"], axis=0)
    ridge = seen.T @ seen + 0.1 * np.eye(FEATURES + 1)
    weights = np.linalg.solve(ridge, seen.T @ wanted).astype(np.float32)
    return {**features, "fc.weight": weights[:-1].T.copy(), "fc.bias": weights[-1]}


def published(folder: Path, weights: Path, **train: object) -> Config:
    """The published configuration with the sizes of this test."""
    config = load_config(PUBLISHED)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=str(folder), calibration_images=16),
        model=dataclasses.replace(config.model, weights=str(weights), **NETWORK),
        train=dataclasses.replace(config.train, **train),
        quantize=dataclasses.replace(config.quantize, batch_size=8),
        export=dataclasses.replace(config.export, golden_images=4),
        # The interval of 24 pictures is 15 points wide where every answer is right.
        validate=dataclasses.replace(
            config.validate, max_accuracy_drop=0.25, latency_launches=1, latency_runs=3,
            runtimes=("keras", "litert", "onnxruntime"),
        ),
    )


@pytest.fixture(scope="module")
def pipeline(folder: Path, state: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
    safetensors.numpy.save_file(state, weights)
    return Pipeline(config=published(folder, weights), out=tmp_path_factory.mktemp("out"))


def test_a_pretrained_checkpoint_is_quantized_both_ways_and_passes(pipeline):
    report = pipeline.run()
    assert report.verdict == "pass", report.failures
    integer = [row for row in report.rows if row.scheme.startswith("int8") and row.coverage is not None]
    assert {row.scheme for row in integer} == {"int8-ptq", "int8-qat"}
    assert {row.runtime for row in integer} == {"litert", "onnxruntime"}
    for row in integer:
        assert row.coverage.float_ops == ()
        assert row.accuracy.float_top1 > 0.9
        assert row.accuracy.agreement > 0.9
    assert report.grids
    assert not any(grid.mismatches for grid in report.grids)


def test_the_float_model_is_the_checkpoint(pipeline, state):
    pipeline.train()
    images = preprocess(pipeline.splits.test.images[:4], pipeline.spec)
    logits = torch_logits(state, images)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    # Half of the logits' bound of 1e-4: the slope of a softmax.
    np.testing.assert_allclose(
        load_model(pipeline.float_file)(images).numpy(), shares / shares.sum(-1, keepdims=True), rtol=0, atol=5e-5
    )


def test_pads_are_integer_operations_in_tflite_and_none_in_onnx(pipeline):
    pipeline.export()
    for file in sorted(pipeline.bundle_folder.glob("int8-*.tflite")):
        graph = read_tflite(file.read_bytes(), where=file)
        pads = [operation for operation in graph.operations if operation.kind == "PAD"]
        assert len(pads) == PADS
        for pad in pads:
            data, padded = graph.tensors[pad.inputs[0]], graph.tensors[pad.outputs[0]]
            assert data.dtype == padded.dtype == "int8"
            np.testing.assert_array_equal(data.scales, padded.scales)
            np.testing.assert_array_equal(data.zero_points, padded.zero_points)
        found = inspect_file(file)
        assert found.operations["PAD"] == PADS
        assert found.float_operations == found.conversion_operations == 0
    for file in sorted(pipeline.bundle_folder.glob("*.onnx")):
        graph = read_onnx(file.read_bytes(), where=file)
        assert not [operation for operation in graph.operations if operation.kind == "Pad"]


def test_a_pth_file_is_fine_tuned_with_a_classifier_of_its_own(folder, tmp_path):
    save_zip(tmp_path / "last.pth", {"state_dict": state_dict(torch_state(**NETWORK, classes=1000)), "epoch": 90})
    config = published(folder, tmp_path / "last.pth", epochs=1, batch_size=8)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, new_head=True))
    pipeline = Pipeline(config=config, out=tmp_path / "out")
    pipeline.train()
    assert load_model(pipeline.float_file).output_shape == (None, len(CLASSES))
    # The same bytes elsewhere are the same weights; other bytes are not.
    again = dataclasses.replace(config.model, weights=str(tmp_path / "last.pth").replace("last", "./last"))
    second = Pipeline(config=dataclasses.replace(config, model=again), out=tmp_path / "out")
    second.train()
    assert not second.cache.ran
    save_zip(tmp_path / "last.pth", state_dict(torch_state(**NETWORK, classes=1000, seed=1)))
    third = Pipeline(config=config, out=tmp_path / "out")
    third.train()
    assert third.cache.ran == ["preflight", "train"]
