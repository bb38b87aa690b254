"""The runner as the one file that goes to a device."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.core.files import sha256_of_file
from edgeship.validate.runner.pack import PACKAGE, pack, packed_runner


def test_it_imports_nothing_of_edgeship_and_parses_on_old_pythons() -> None:
    others, names = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "psutil", PACKAGE}, set()
    with zipfile.ZipFile(packed_runner()) as archive:
        for path in archive.namelist():
            for node in ast.walk(ast.parse(archive.read(path), feature_version=(3, 9))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add((node.module or "").split(".")[0])
                elif isinstance(node, ast.ImportFrom):  # of another module in the archive
                    inside = [node.module] if node.module else [alias.name for alias in node.names]
                    assert {f"{PACKAGE}/{name}.py" for name in inside} <= set(archive.namelist())
    assert names - set(sys.stdlib_module_names) == others


def test_a_process_packs_it_once(tmp_path: Path) -> None:
    assert packed_runner() is packed_runner()
    assert zipfile.ZipFile(pack(tmp_path)).namelist() == zipfile.ZipFile(packed_runner()).namelist()
    assert [path.name for path in tmp_path.iterdir()] == ["runner.pyz"]


def answers(process: subprocess.Popen[str], *requests: dict[str, Any]) -> list[dict[str, Any]]:
    text, _ = process.communicate("".join(json.dumps(request) + "\n" for request in requests), timeout=600)
    return [json.loads(line) for line in text.splitlines()]


def test_alone_in_a_folder_it_answers_with_the_right_bits(master_bundle: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "runner.pyz"
    alone.parent.mkdir()
    shutil.copy(packed_runner(), alone)
    artifact, inputs, outputs = master_bundle / "int8.onnx", tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(inputs, np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1))
    process = subprocess.Popen(
        [sys.executable, "-P", str(alone)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=alone.parent, env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    loaded, ran, planned, memory, state = answers(
        process,
        {"do": "load", "runtime": "onnxruntime", "path": str(artifact), "options": {"threads": 1},
         "sha256": sha256_of_file(artifact)},
        {"do": "run", "inputs": [str(inputs)], "outputs": [str(outputs)],
         "sha256": [sha256_of_file(inputs)]},
        {"do": "plan"}, {"do": "memory"}, {"do": "state"},
    )
    assert loaded["ok"]["inputs"][0]["dtype"] == "uint8" and loaded["ok"]["load_ms"] > 0
    assert ran["ok"]["sha256"] == [sha256_of_file(outputs)]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact))
    expected = session.run(None, {session.get_inputs()[0].name: np.load(inputs)})[0]
    assert np.array_equal(np.load(outputs), expected)
    assert any("QLinearConv" in event["name"] or event["args"]["op_name"] == "QLinearConv"
               for event in planned["ok"]["plan"]["onnxruntime"]["events"])
    assert memory["ok"]["peak_memory_bytes"] > 1_000_000 and "temperature_c" in state["ok"]


def test_an_unknown_mode() -> None:
    done = subprocess.run([sys.executable, str(packed_runner()), "fly"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "expected nothing, `supervise` or `keep DIR`; found 'fly'" in done.stderr
