"""The modes of a device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.validate.runner.pack import packed_runner


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(packed_runner()), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )


def test_the_supervisor_says_how_the_runner_ended() -> None:
    process = start("supervise")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"do": "memory"}) + "\n")
    process.stdin.flush()
    assert "peak_memory_bytes" in json.loads(process.stdout.readline())["ok"]
    done = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert json.loads(process.stdout.readline()) == {"ended": -signal.SIGKILL}
    process.stdin.close()
    assert process.wait(60) == 0


def test_the_supervisor_ends_a_busy_runner_when_the_link_ends(tmp_path: Path, master_bundle: Path) -> None:
    inputs = tmp_path / "in.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    process = start("supervise")
    assert process.stdin is not None and process.stdout is not None
    for request in (
        {"do": "load", "runtime": "litert", "path": str(master_bundle / "int8.tflite"), "options": {"threads": 1}},
        {"do": "time", "inputs": [str(inputs)], "runs": 10**9, "seconds": 600, "discarded": 1},
    ):
        process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    assert "ok" in json.loads(process.stdout.readline())
    process.stdin.close()
    assert json.loads(process.stdout.readline())["ended"] == -signal.SIGKILL
    process.wait(60)


@pytest.mark.parametrize("ending", ["closed", signal.SIGHUP, signal.SIGTERM])
def test_the_keeper_removes_its_folder_however_the_link_ends(tmp_path: Path, ending: Any) -> None:
    process = start("keep", str(tmp_path))
    assert process.stdin is not None and process.stdout is not None
    about = json.loads(process.stdout.readline())["ok"]
    folder = Path(about["folder"])
    assert folder.parent == tmp_path and oct(folder.stat().st_mode)[-3:] == "700"
    (folder / "model.tflite").write_bytes(b"x")
    process.stdin.write("state\n")
    process.stdin.flush()
    assert "throttled" in json.loads(process.stdout.readline())["ok"]
    if ending == "closed":
        process.stdin.close()
    else:
        process.send_signal(ending)
    process.wait(60)
    assert not folder.exists()
