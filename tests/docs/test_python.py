"""docs/python.md and the notebook: every block of code runs, in order, and says what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.warm_workers import WarmWorkers

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "five_lines.ipynb"


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def first_line(warm_workers: WarmWorkers | None) -> str:
    """What runs before the user's own lines: its workers of float Keras are forked as those of the tests are."""
    return "" if warm_workers is None else warm_workers.first_line()


def test_the_blocks_of_the_page_run_in_order(tmp_path: Path, first_line: str) -> None:
    script = tmp_path / "page.py"
    script.write_text(first_line + "\n".join(blocks(PAGE)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout
    assert "kernels of 3 of 3 weighted layers quantized" in said
    assert "int8-qat" in said and re.search(r"^int8 \d+ \d+$", said, re.MULTILINE)
    assert "pass ('accuracy: no targets were given',)" in said
    assert "calibration: expected" in said and "found an array of shape (200, 5)" in said
    assert (tmp_path / "report" / "report.json").is_file()


def test_readme_shows_the_five_lines() -> None:
    (block,) = blocks(ROOT / "README.md")
    for line in ("edgeship.quantize_model(model, ", ".export(", ".validate("):
        assert line in block and line in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["tf_keras", "keras"])
def test_the_notebook_runs_for_models_of_both_keras(tmp_path: Path, first_line: str, kind: str) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "import keras\n" in first.source
    first.source = first.source.replace("import keras\n", f"import {kind} as keras\n")
    first.source = first_line + first.source
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data["text/html"] for output in outputs if output.output_type == "execute_result"]
    assert any("int8-ptq.onnx" in html and "<pre" in html for html in shown)
    assert any("1 LSB" in getattr(output, "text", "") for output in outputs)
