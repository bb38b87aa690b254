from __future__ import annotations

import importlib
import sys

import pytest

from edgeship.app.pipeline.source_key import forget_edited_modules, named_modules, put_first, source_key
from edgeship.core.config import ModelConfig

FILES = {
    "beside/nets_of_a_test.py": "import shapes_of_a_test\nfrom kit_of_a_test.blocks import WIDTH\n",
    "beside/shapes_of_a_test.py": "SIZE = 1\n",
    "beside/kit_of_a_test/__init__.py": "",
    "beside/kit_of_a_test/blocks.py": "from . import numbers\nWIDTH = numbers.WIDTH\n",
    "beside/kit_of_a_test/numbers.py": "WIDTH = 3\n",
    "beside/unused_of_a_test.py": "",
    "elsewhere/far_of_a_test.py": "def build():\n    from constants_of_a_test import DEPTH\n    return DEPTH\n",
    "elsewhere/constants_of_a_test.py": "import json\nDEPTH = 4\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere"), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_modules_of_a_configuration_are_those_it_names():
    config = ModelConfig(factory="a.b:build", custom_objects=("c", "d.e"))
    assert named_modules(config) == ("a.b", "c", "d.e")
    assert named_modules(ModelConfig()) == ()


def test_helpers_and_packages_beside_the_configuration_are_part_of_the_key(folder):
    put_first(folder / "beside")
    importlib.import_module("nets_of_a_test")
    key = source_key(["nets_of_a_test"], folder / "beside")
    assert set(key) == {
        "nets_of_a_test", "shapes_of_a_test", "kit_of_a_test", "kit_of_a_test.blocks", "kit_of_a_test.numbers",
    }
    (folder / "beside/kit_of_a_test/numbers.py").write_text("WIDTH = 4\n")
    changed = source_key(["nets_of_a_test"], folder / "beside")
    assert {name for name in key if key[name] != changed[name]} == {"kit_of_a_test.numbers"}


def test_a_factory_that_lies_elsewhere_brings_what_it_imports_but_nothing_installed(folder):
    importlib.import_module("far_of_a_test").build()
    assert set(source_key(["far_of_a_test"], None)) == {"far_of_a_test", "constants_of_a_test"}


def test_an_edited_module_and_those_that_use_it_are_imported_anew(folder):
    put_first(folder / "beside")
    before = importlib.import_module("nets_of_a_test")
    source_key(["nets_of_a_test"], folder / "beside")
    forget_edited_modules(["nets_of_a_test"], folder / "beside")
    assert importlib.import_module("nets_of_a_test") is before
    (folder / "beside/kit_of_a_test/numbers.py").write_text("WIDTH = 12345\n")
    forget_edited_modules(["nets_of_a_test"], folder / "beside")
    assert importlib.import_module("nets_of_a_test").WIDTH == 12345


def test_a_module_of_the_same_name_in_another_folder_is_not_taken_for_this_one(folder):
    put_first(folder / "beside")
    importlib.import_module("nets_of_a_test")
    other = folder / "other"
    other.mkdir()
    (other / "nets_of_a_test.py").write_text("WIDTH = 7\n")
    put_first(other)
    forget_edited_modules(["nets_of_a_test"], other)
    assert importlib.import_module("nets_of_a_test").WIDTH == 7
