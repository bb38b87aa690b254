"""One tiny trained pipeline for every test: digits at 16x16, two residual units, width 8."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.config import Config, DataConfig, ExportConfig, ModelConfig, QuantizeConfig, TrainConfig
from edgeship.pipeline import Pipeline


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    return Config(
        data=DataConfig(image_size=16, train_images=400, calibration_images=64, test_images=100),
        model=ModelConfig(stage_sizes=(1, 1), width=8),
        train=TrainConfig(epochs=4, batch_size=32),
        quantize=QuantizeConfig(epochs=1, batch_size=32),
        export=ExportConfig(
            formats=("tflite", "onnx", "ort"), tflite_io=("int8", "float32"), onnx_variants=("u8u8", "u8s8", "s8s8"),
            golden_images=8,
        ),
    )


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(config=tiny_config, out=tmp_path_factory.mktemp("tiny"))
    pipeline.export()
    return pipeline


@pytest.fixture(scope="session")
def tiny_bundle(tiny_pipeline: Pipeline) -> Path:
    return tiny_pipeline.bundle_folder
