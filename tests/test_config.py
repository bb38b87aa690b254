from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.config import Config, config_from_dict, config_to_dict, load_config
from edgeship.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_published_configuration_loads(path):
    assert isinstance(load_config(path), Config)


def test_a_configuration_survives_the_way_through_plain_values():
    assert config_from_dict(config_to_dict(Config())) == Config()


def test_relative_paths_start_at_the_file(tmp_path):
    (tmp_path / "three.toml").write_text('[data]\nname = "image_folder"\npath = "pictures"\n')
    assert load_config(tmp_path / "three.toml").data.path == str(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dta]\n", "unknown section: 'dta'; known are data, model"),
        ("[data]\nsize = 3\n", r"unknown key in \[data\]: 'size'; known are name, path"),
        ("[train]\nepochs = 'ten'\n", "train.epochs: expected int, found 'ten'"),
        ("[train]\nepochs = true\n", "train.epochs: expected int, found True"),
        ("[train]\nepochs = -1\n", "train.epochs: expected 0 or more, found -1"),
        ("[quantize]\nschemes = ['int9']\n", "quantize.schemes: expected one of float32, .*found 'int9'"),
        ("[data]\nmean = [0.1, 0.2]\n", "data.mean: expected 1 or 1 numbers"),
        ("[validate]\nlatency_launches = 0\n", "validate.latency_launches: expected 1 or more, found 0"),
        ("[validate]\nmin_coverage = 2\n", "validate.min_coverage: expected 0 to 1, found 2"),
        ("data = 3\n", r"\[data\]: expected a section with keys, found 3"),
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
