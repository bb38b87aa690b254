"""What `pip install edgeship` leaves out: the list, and the sentence where it is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edgeship.app.pipeline.pipeline import Pipeline
from edgeship.core.parts import PARTS, TRAIN, how_to_install
from edgeship.validate.report.report import load_report

ROOT = Path(__file__).parents[2]


def distributions(requirements: list[str]) -> set[str]:
    return {text.partition("=")[0].partition(">")[0].strip().lower().replace("_", "-") for text in requirements}


def test_the_list_is_that_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    owners = metadata.packages_distributions()
    extras = project["optional-dependencies"]
    for part, modules in PARTS.items():
        extra = distributions(extras[part]) - {"edgeship[report]"}  # of which [train] consists too
        assert {owners[name][0].lower().replace("_", "-") for name in modules} == extra
        assert not distributions(project["dependencies"]) & extra
    assert "edgeship[report]" in extras["train"]


def test_a_name_of_the_front_door_says_which_part_it_needs() -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None; import edgeship\n"
        "print(edgeship.load_bundle.__name__)\n"
        "try: edgeship.quantize_model\n"
        "except edgeship.EdgeshipError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "load_bundle",
        'edgeship.quantize_model: tensorflow is not installed, and this needs it: pip install "edgeship[train]"',
    ]


@pytest.mark.parametrize(("module", "sentence"), [
    ("tensorflow.python.ops", 'tensorflow is not installed, and this needs it: pip install "edgeship[train]"'),
    ("sklearn", 'sklearn is not installed, and this needs it: pip install "edgeship[train]"'),
    ("matplotlib.figure", 'matplotlib is not installed, and this needs it: pip install "edgeship[report]"'),
    ("torch", None),  # of the user's own code
    (None, None),
])
def test_the_sentence(module: str | None, sentence: str | None) -> None:
    assert how_to_install(module) == sentence


@pytest.mark.parametrize("command", [["run"], ["train", "configs/digits.toml"], ["sensitivity", "configs/digits.toml"]])
def test_a_command_whose_part_is_missing_says_how_to_install_it(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({TRAIN!r}))  # as if they were not installed\n"
        "from edgeship.app.cli.main import main\n"
        f"sys.exit(main([*{command!r}, '--out', {str(tmp_path / 'out')!r}]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    *before, error = ended.stderr.splitlines()
    assert before == ["data: digits"]  # the stage that needed it
    assert 'this needs it: pip install "edgeship[train]"' in error


def test_files_are_inspected_compared_and_validated_without_the_part(
    tiny_pipeline: Pipeline, tiny_bundle: Path, tmp_path: Path
) -> None:
    images, test = tmp_path / "data.npz", tiny_pipeline.splits.test
    pixels = test.images[:]
    np.savez(images, x_train=pixels, y_train=test.labels, x_test=pixels, y_test=test.labels)
    (tmp_path / "data.toml").write_text(
        f'[data]\nname = "npz"\nimage_size = 16\ntest_images = {len(test)}\npath = "{images}"\n'
        "[validate]\nlatency_launches = 1\nlatency_runs = 5\nmax_accuracy_drop = 1.0\n"
    )
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({TRAIN!r}))\n"
        "from edgeship.app.cli.main import main\n"
        f"bundle, out = {str(tiny_bundle)!r}, {str(tmp_path / 'out')!r}\n"
        "file = bundle + '/int8-qat.tflite'\n"
        "assert main(['inspect', file]) == 0\n"
        "assert main(['compare', file, file, '--out', out]) == 0\n"
        f"code = main(['validate', bundle, '--data', {str(tmp_path / 'data.toml')!r}, '--out', out,\n"
        "             '--images', '20'])\n"
        "assert code in (0, 3), code  # 100 images may not decide\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "verdict:" in ended.stdout
    report = load_report(tmp_path / "out" / "report.json")
    keras = next(row for row in report.rows if row.runtime == "keras")
    assert keras.error is None and keras.accuracy is None and keras.latency is None
    assert not any("keras /" in failure or "tensorflow" in failure for failure in report.failures)
    assert any(
        note.startswith("float.keras / keras: not measured: tensorflow is not installed here (pip install")
        for note in report.notes
    )
    assert all(row.accuracy is not None and row.accuracy.delta is not None for row in report.rows if row is not keras)
