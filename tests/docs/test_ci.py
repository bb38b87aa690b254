"""docs/ci.md and docs/ci/: what they show must be what the command line, the forms and the records have."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.app.cli.compare import VERDICT_CODES
from edgeship.app.cli.main import command_parser
from edgeship.core import errors
from edgeship.core.comparison import VERDICTS
from edgeship.validate.compare.forms.history import COLUMNS, appended, history_rows
from edgeship.validate.compare.report import FORMS, HTML_FILE
from tests.support.comparison_records import NOT_THERE, PASSED, check, comparison
from tests.support.shell_lines import EDGESHIP, commands

DOCS = Path(__file__).parents[2] / "docs"
GUIDE, WORKFLOW, RECIPE = DOCS / "ci.md", DOCS / "ci" / "github-actions.yml", DOCS / "ci" / "latency-gate.sh"
# A call of the recipe is the command that the recipe runs.
CALLS = EDGESHIP | {f"ci/{RECIPE.name}": ["baseline", "check"]}
SIZE = 16


def fenced(language: str) -> str:
    """The guide's code blocks in a language, one after the other."""
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))


def shell_lines() -> dict[str, str]:
    """File -> what a shell runs in it; commands in the guide's sentences too."""
    steps = "\n".join(re.findall(r"run: (.*)", WORKFLOW.read_text()))
    sentences = "\n".join(" ".join(item.split()) for item in re.findall(r"`(edgeship [a-z][^`]*)`", GUIDE.read_text()))
    recipe = "\n".join(line for line in RECIPE.read_text().splitlines() if not line.startswith("#"))
    return {"ci.md": f"{fenced('sh')}\n{sentences}", "github-actions.yml": steps, "latency-gate.sh": recipe}


@pytest.mark.parametrize("name", ["ci.md", "github-actions.yml", "latency-gate.sh"])
def test_every_command_is_one_that_the_command_line_knows(name: str) -> None:
    found = list(commands(shell_lines()[name], calls=CALLS))
    assert found
    for arguments in found:
        try:
            options = command_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{name}: edgeship {shlex.join(arguments)}")
        assert options.call


def test_the_commands_of_the_gate_are_all_shown() -> None:
    shown = {tuple(arguments[:2]) for text in shell_lines().values() for arguments in commands(text, calls=CALLS)}
    assert {("baseline", "save"), ("baseline", "list"), ("baseline", "check")} <= shown
    assert any(first == "compare" for first, *_ in shown)


def test_the_workflow_calls_files_that_are_there_and_is_well_formed_as_far_as_text_shows() -> None:
    text = WORKFLOW.read_text()
    assert "\t" not in text
    margins = [len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()]
    assert all(margin % 2 == 0 for margin in margins)
    keys = re.findall(r"^([a-z]+):", text, re.MULTILINE)
    assert keys == ["name", "on", "permissions", "jobs"]
    assert re.findall(r"^  ([a-z-]+):$", text.partition("\njobs:")[2], re.MULTILINE) == ["gate", "self-test"]
    for job in text.partition("\njobs:")[2].split("\n\n"):
        assert "runs-on:" in job and "timeout-minutes:" in job and "if: always()" in job
    assert f"sh ci/{RECIPE.name} " in text
    assert all(re.fullmatch(r"[\w./-]+@v\d+", action) for action in re.findall(r"uses: (\S+)", text))
    assert "path: latency/" in text and "--out latency" in RECIPE.read_text()


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", GUIDE.read_text())
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in GUIDE.read_text().splitlines() if line.startswith("#")
    }
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (DOCS / target).exists(), target


def test_the_table_of_exit_codes_is_the_programs() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z, -]+) \|", GUIDE.read_text(), re.MULTILINE)
    told = {verdict: int(code) for code, verdicts in rows for verdict in verdicts.split(", ") if verdict != "-"}
    assert told == VERDICT_CODES
    assert set(told) == set(VERDICTS)
    assert {int(code) for code, verdicts in rows if verdicts == "-"} == {errors.USAGE, errors.INTERRUPTED}


def test_the_table_of_files_is_what_is_written() -> None:
    told = re.findall(r"^\| `([a-z_]+\.[a-z]+)` \|", GUIDE.read_text(), re.MULTILINE)
    assert sorted(told) == sorted([*FORMS, HTML_FILE])
    schema = re.search(r"`(validate/\S+\.schema\.json)`", GUIDE.read_text())
    assert schema is not None and (DOCS.parent / schema[1]).exists()


def test_the_columns_that_otava_is_told_are_the_historys() -> None:
    yaml = fenced("yaml")
    wanted = [re.search(r"time_column: (\w+)", yaml)[1], *re.findall(r"attributes: \[(\w+)\]", yaml),
              *re.findall(r"(\w+): \{direction", yaml)]
    assert wanted == ["time", "commit", "ratio"] and set(wanted) <= set(COLUMNS)


def test_the_recipe_for_otava_leaves_the_timed_rows_of_one_check(tmp_path: Path) -> None:
    other_target = check(target="ssh://pi@board", kind="device")
    untimed = check(timing=None)
    text = ""
    for checks in ((check(), PASSED), (NOT_THERE, other_target), (untimed,), (check(),)):
        text = appended(text, history_rows(comparison(*checks), time="2026-08-01T10:00:00+00:00"))
    (tmp_path / "history.csv").write_text(text)
    (line,) = (line for line in fenced("sh").splitlines() if line.startswith("awk"))
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    header, *rows = (tmp_path / "otava.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert len(rows) == 2 and all(",int8-qat.onnx,onnxruntime,cpu,cpu_time,1.031," in row for row in rows)


def product(folder: Path, name: str, *, weight: float, extra: int = 0) -> Path:
    """An .onnx file: a matrix product, and `extra` activations that are part of no other operation."""
    weights = numpy_helper.from_array(np.full((SIZE, SIZE), weight, np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t0"], name="product")]
    for index in range(extra):
        nodes.append(helper.make_node("LeakyRelu", [f"t{index}"], [f"t{index + 1}"], name=f"leaky{index}"))
    nodes.append(helper.make_node("Relu", [f"t{extra}"], ["y"], name="relu"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializer=[weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with a baseline called "main" of one artifact."""
    path = product(tmp_path, "model.onnx", weight=0.5)
    subprocess.run(
        [sys.executable, "-m", "edgeship", "baseline", "save", str(path), "--name", "main", "--no-timing"],
        cwd=tmp_path, check=True, capture_output=True,
    )
    return tmp_path


def gate(folder: Path, candidate: Path, *more: str, strict: str | None = None) -> subprocess.CompletedProcess[str]:
    """The recipe, with this environment's `edgeship` on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment = {**outside, "PATH": path, **({} if strict is None else {"STRICT": strict})}
    return subprocess.run(
        ["sh", str(RECIPE), "main", str(candidate), *more], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )


def test_the_recipe_passes_an_identical_artifact(kept: Path) -> None:
    done = gate(kept, kept / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert (kept / "latency" / "junit.xml").exists()


def test_the_recipe_fails_on_a_regression_and_on_wrong_input(kept: Path) -> None:
    worse = gate(kept, product(kept, "worse.onnx", weight=0.5, extra=2))
    assert worse.returncode == errors.FAILED, worse.stdout + worse.stderr
    assert "expected 0 LeakyRelu, found 2 (leaky0, leaky1)" in (kept / "latency" / "comparison.md").read_text()
    assert gate(kept, kept / "absent.onnx").returncode == errors.USAGE


def test_the_recipe_lets_no_verdict_through_unless_it_is_strict(kept: Path) -> None:
    """In a thousandth of a second nothing is decided, whatever the machine."""
    other = product(kept, "other.onnx", weight=0.25)
    lenient = gate(kept, other, "--max-seconds", "0.001")
    assert lenient.returncode == 0 and "no verdict" in lenient.stderr
    strict = gate(kept, other, "--max-seconds", "0.001", strict="1")
    assert strict.returncode == errors.INCONCLUSIVE and "no verdict" not in strict.stderr
