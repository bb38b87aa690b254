from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgeship.core.config import Config
from edgeship.core.config_file import config_from_dict, config_to_dict, load_config
from edgeship.core.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_published_configuration_loads(path):
    assert isinstance(load_config(path), Config)


def test_a_configuration_survives_the_way_through_plain_values():
    assert config_from_dict(config_to_dict(Config())) == Config()


def test_a_limit_may_be_infinite():
    assert config_from_dict({"validate": {"latency_seconds": math.inf}}).validate.latency_seconds == math.inf


def test_relative_paths_start_at_the_file(tmp_path):
    (tmp_path / "three.toml").write_text(
        '[data]\nname = "image_folder"\npath = "pictures"\n[model]\nweights = "files/weights.h5"\n'
    )
    config = load_config(tmp_path / "three.toml")
    assert config.data.path == str(tmp_path / "pictures")
    assert config.model.weights == str(tmp_path / "files" / "weights.h5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dta]\n", "unknown section: 'dta'; known are data, model"),
        ("[data]\nsize = 3\n", r"unknown key in \[data\]: 'size'; known are name, factory, path"),
        ("[train]\nepochs = 'ten'\n", 'train.epochs: expected a whole number, found "ten"'),
        ("[train]\nepochs = true\n", "train.epochs: expected a whole number, found true"),
        ("[train]\nepochs = -1\n", "train.epochs: expected 0 or more, found -1"),
        ("[quantize]\nschemes = ['int9']\n", "quantize.schemes: expected one of float32, .*found 'int9'"),
        ("[quantize]\nschemes = []\n", "quantize.schemes: expected at least one of float32, float16, dynamic-int8"),
        ("[quantize]\nweight_bits = 4\n", "quantize.weight_bits: expected one of 8, 7; found 4"),
        ("[quantize]\nschemes = ['int8-mixed']\n", "max_accuracy_drop: int8-mixed keeps layers in float .* found none"),
        ("[quantize]\nmax_accuracy_drop = 1.5\n", "quantize.max_accuracy_drop: expected 0 to 1, found 1.5"),
        (
            "[quantize]\nschemes = ['int16x8-ptq']\nkeep_float = ['conv']\n[export]\nskip = ['int16x8-ptq:onnx']\n",
            "quantize.keep_float: int16x8-ptq quantizes the whole network",
        ),
        (
            "[quantize]\nschemes = ['int16x8-ptq']\n",
            "int16x8-ptq as onnx: ONNX Runtime has no integer kernels for int16 activations .*'int16x8-ptq:onnx' to "
            "export.skip",
        ),
        (
            "[quantize]\nschemes = ['float16']\n[export]\nformats = ['tflite', 'onnx', 'ort']\n",
            "float16 as ort: ONNX Runtime's converter folds the small weights .*add 'float16:ort' to export.skip",
        ),
        ("[export]\nskip = ['int9:onnx']\n", "export.skip: expected pairs of a scheme .*found 'int9:onnx'"),
        ("[export]\nskip = ['int8-qat']\n", "export.skip: expected pairs of a scheme .*found 'int8-qat'"),
        (
            "[export]\nformats = ['tflite', 'onnx', 'ort']\nskip = ['int8-qat:onnx']\n",
            "export.skip: ort is made from onnx, so 'int8-qat:onnx' needs 'int8-qat:ort' beside it",
        ),
        ("[export]\nformats = ['onnx']\nskip = ['int8-qat:onnx']\n", "export.skip: leaves no format for int8-qat"),
        ("[export]\nformats = []\n", "export.formats: expected at least one of tflite, onnx, ort, found none"),
        ("[data]\nmean = [0.1, 0.2]\n", "data.mean: expected 1 or 1 numbers"),
        ("[data]\nmean = [123.7]\n", r"data.mean: expected numbers from 0 to 1.*found \[123.7\]; divide"),
        ("[data]\nmean = [nan]\n", r"data.mean: expected numbers from 0 to 1.*found \[nan\]"),
        ("[data]\nstd = [inf]\n", r"data.std: expected numbers above 0, found \[inf\]"),
        ("[validate]\nlatency_launches = 0\n", "validate.latency_launches: expected 1 or more, found 0"),
        ("[validate]\nmin_coverage = 2\n", "validate.min_coverage: expected 0 to 1, found 2"),
        ("data = 3\n", r"\[data\]: expected a section with keys, found 3"),
        ("[data]\nfit = 'pad'\n", "data.fit: expected one of crop, stretch; found 'pad'"),
        ("[model]\npadding = 'valid'\n", "model.padding: expected one of same, symmetric; found 'valid'"),
        ("[model]\nse_divisor = 0\n", "model.se_divisor: expected 1 or more, found 0"),
        ("[model]\nweights = 'a.ckpt'\n", r"model.weights: the suffix: expected one of .safetensors, .*found '.ckpt'"),
        ("[model]\nweights = 'a.h5'\nfactory = 'a:b'\n", "model.weights: is for the home model"),
        ("[model]\nnew_head = true\n", "model.new_head: is for model.weights, which is not set"),
        ("[model]\nweights = 'a.h5'\nnew_head = true\n[train]\nepochs = 0\n", "train.epochs: 0 leaves the new"),
        ("[data\n", "not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(tmp_path / "wrong.toml")
    assert "wrong.toml" in str(caught.value)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such configuration file"):
        load_config(tmp_path / "none.toml")
