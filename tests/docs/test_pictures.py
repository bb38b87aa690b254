"""docs/pictures.md: its code draws the folder, its configuration reads it, and its model fits both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgeship.core.config import Config
from edgeship.core.config_file import config_from_dict
from edgeship.core.schemes import SCHEMES
from edgeship.data import check_calibration, load_splits, preprocessing_of

PAGE = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text(encoding="utf-8")
LABELS = ("circle", "square", "triangle")


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


def configuration() -> Config:
    return config_from_dict(tomllib.loads(block("toml")))


def model() -> Any:
    names: dict[str, Any] = {}
    exec(block("python", 1), names)
    return names["build"](input_shape=(32, 32, 3), classes=len(LABELS))


def test_the_code_draws_the_folder_that_the_configuration_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})
    config = configuration()
    splits = load_splits(config.data)
    assert splits.labels == LABELS
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (240, 60, 300)
    check_calibration(splits, spec=preprocessing_of(config.data))
    assert f"draws {len(splits.train) + len(splits.calibration) + len(splits.test)} of them" in PAGE


def test_the_model_is_what_the_configuration_calls() -> None:
    assert configuration().model.factory == "shapes:build"
    assert "`shapes.py`" in PAGE
    assert model().output_shape == (None, len(LABELS))


def test_the_files_of_the_page_are_those_of_the_schemes() -> None:
    config = configuration()
    named = {name.partition(".")[0] for name in re.findall(r"`bundle/([\w-]+\.(?:tflite|onnx))`", PAGE)}
    assert {name.removesuffix("-u8s8") for name in named} <= set(config.quantize.schemes) <= set(SCHEMES)
    assert "u8s8" in config.export.onnx_variants and set(config.export.formats) >= {"tflite", "onnx"}
