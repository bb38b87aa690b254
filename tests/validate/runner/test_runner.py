"""The runner as the one file that goes to a device."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.core.errors import RuntimeFailure
from edgeship.core.files import sha256_of_bytes, sha256_of_file
from edgeship.validate.process.client import Worker
from edgeship.validate.runner import runner

RUNNER = Path(runner.__file__)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RUNNER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )


def answers(process: subprocess.Popen[str], *requests: dict[str, Any]) -> list[dict[str, Any]]:
    text, _ = process.communicate("".join(json.dumps(request) + "\n" for request in requests), timeout=60)
    return [json.loads(line) for line in text.splitlines()]


def test_it_imports_nothing_of_edgeship_and_parses_on_old_pythons() -> None:
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 9))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }
    others = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "psutil"}
    assert names - set(sys.stdlib_module_names) == others


def test_alone_in_a_folder_it_answers_with_the_right_bits(master_bundle: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "runner.py"
    alone.parent.mkdir()
    shutil.copy(RUNNER, alone)
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
        {"do": "run", "inputs": str(inputs), "outputs": str(outputs), "sha256": sha256_of_file(inputs)},
        {"do": "plan"}, {"do": "memory"}, {"do": "state"},
    )
    assert loaded["ok"]["inputs"][0]["dtype"] == "uint8" and loaded["ok"]["load_ms"] > 0
    assert ran["ok"]["sha256"] == sha256_of_file(outputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact))
    expected = session.run(None, {session.get_inputs()[0].name: np.load(inputs)})[0]
    assert np.array_equal(np.load(outputs), expected)
    assert any("QLinearConv" in event["name"] or event["args"]["op_name"] == "QLinearConv"
               for event in planned["ok"]["plan"]["onnxruntime"]["events"])
    assert memory["ok"]["peak_memory_bytes"] > 1_000_000 and "temperature_c" in state["ok"]


@pytest.mark.parametrize(("request_", "kind", "message"), [
    ({"do": "load", "runtime": "tpu", "path": "x", "options": {}}, "ValueError", "expected a runtime of litert, "),
    ({"do": "fly"}, "AttributeError", "do_fly"),
    ({"do": "pin", "cpus": [4095]}, "OSError", "cpus: expected processors of ["),
])
def test_requests_that_cannot_be_answered(request_: dict[str, Any], kind: str, message: str) -> None:
    (answer,) = answers(start(), request_)
    assert answer["error"]["type"] == kind and message in answer["error"]["message"]


def test_a_file_that_is_not_the_one_that_was_sent(master_bundle: Path) -> None:
    (answer,) = answers(start(), {
        "do": "load", "runtime": "litert", "path": str(master_bundle / "int8.tflite"), "options": {"threads": 1},
        "sha256": "0" * 64,
    })
    assert answer["error"]["type"] == "AlteredInTransit" and "expected SHA-256 000" in answer["error"]["message"]


def test_a_process_is_bound_to_the_processor_that_was_named() -> None:
    (cpu, *_) = sorted(os.sched_getaffinity(0))
    (answer,) = answers(start(), {"do": "pin", "cpus": [cpu]})
    assert answer == {"ok": {"cpus": [cpu]}}


def test_a_cpu_that_is_not_there_is_a_clear_row_error() -> None:
    message = r"row: OSError while binding it to processors: cpus: expected"
    with pytest.raises(RuntimeFailure, match=message), \
            Worker("row", timeout_seconds=60) as worker:
        worker.ask("pin", cpus=[4095])


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
        {"do": "time", "inputs": str(inputs), "runs": 10**9, "seconds": 600, "discarded": 1},
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


def test_the_state_of_a_device_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "thermal_zone0/temp": "48312", "thermal_zone1/temp": "61500", "thermal_zone2/temp": "broken",
        "cpu0/cpufreq/scaling_cur_freq": "1500000", "cpu0/cpufreq/cpuinfo_max_freq": "2400000",
        "cpu0/cpufreq/scaling_governor": "ondemand", "BAT0/capacity": "83", "AC/online": "1", "ucsi/online": "0",
        "a_mouse/capacity": "5", "a_mouse/scope": "Device",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    real = runner._texts
    monkeypatch.setattr(runner, "_texts", lambda folder, pattern: real(str(tmp_path), pattern))
    monkeypatch.setattr(runner, "POWER_SUPPLIES", tmp_path)
    vcgencmd = tmp_path / "bin" / "vcgencmd"
    vcgencmd.parent.mkdir()
    vcgencmd.write_text("#!/bin/sh\necho throttled=0x50005\n")
    vcgencmd.chmod(0o755)
    monkeypatch.setenv("PATH", str(vcgencmd.parent), prepend=os.pathsep)
    state = runner.device_state()
    assert {key: state[key] for key in (
        "temperature_c", "clock_mhz", "max_clock_mhz", "governor", "throttled", "battery_percent", "plugged"
    )} == {
        "temperature_c": 61.5, "clock_mhz": 1500.0, "max_clock_mhz": 2400.0, "governor": "ondemand",
        "throttled": "0x50005", "battery_percent": 83, "plugged": ["AC"],
    }


def test_what_a_device_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_texts", lambda folder, pattern: [])
    monkeypatch.setattr(runner, "_text", lambda path: "")
    monkeypatch.setattr(runner, "POWER_SUPPLIES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    state = runner.device_state()
    state.pop("load_average_1min")
    assert set(state.pop("counters").values()) == {None} and set(state.values()) == {None}
    identity = runner.describe()["identity"]
    assert {key for key, value in identity.items() if value is not None} == {"kernel", "hostname", "libraries_sha256"}


CGROUP_2 = {
    "/proc/self/cgroup": "0::/ci.slice/job.scope\n",
    "/sys/fs/cgroup/ci.slice/job.scope/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/ci.slice/cpu.max": "150000 100000\n",
    "/sys/fs/cgroup/ci.slice/job.scope/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 3\n",
    "/sys/fs/cgroup/ci.slice/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 4\n",
    "/sys/fs/cgroup/cpu.stat": "usage_usec 5\n",
}
CONTAINER = {  # of cgroup v1, where the group's own folder is shown as the root
    "/proc/self/cgroup": "5:memory:/docker/1d\n1:cpu,cpuacct:/docker/1d\n0::/\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "/sys/fs/cgroup/cpu/cpu.stat": "nr_periods 9\nnr_throttled 8\nthrottled_time 7\n",
}
FREE = {
    "/proc/self/cgroup": "1:cpu:/\n0::/\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n", "/sys/fs/cgroup/cpu/cpu.stat": "nr_throttled 0\n",
}


@pytest.mark.parametrize(("files", "limit", "throttled_periods"), [
    (CGROUP_2, "150000 100000", 7), (CONTAINER, "50000 100000", 8), (FREE, "max", 0), ({}, None, None),
])
def test_the_limits_of_a_control_group(
    files: dict[str, str], limit: str | None, throttled_periods: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_text", lambda path: files.get(path, ""))
    assert runner.describe()["identity"]["cgroup_cpu_max"] == limit
    assert runner.device_state()["counters"]["throttled_periods"] == throttled_periods


def test_pressure_steal_and_turbo_of_a_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/pressure/cpu": "some avg10=12.50 avg60=3.14 avg300=5.55 total=1664433953\nfull avg10=0.00 avg60=0.00",
        "/proc/stat": "cpu  900 200 100 5000 60 0 20 320 7 7\ncpu0 450 100 50 2500 30 0 10 160 7 7\n",
        "/sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
    }
    monkeypatch.setattr(runner, "_text", lambda path: files.get(path, ""))
    state = runner.device_state()
    assert state["cpu_pressure_percent"] == 12.5 and state["turbo"] is False
    # guest time is in user time already
    assert state["counters"]["cpu_ticks"] == 6600 and state["counters"]["steal_ticks"] == 320
    del files["/sys/devices/system/cpu/intel_pstate/no_turbo"]
    files["/sys/devices/system/cpu/cpufreq/boost"] = "1\n"
    assert runner.device_state()["turbo"] is True


def test_this_machine_tells_its_identity_and_the_hash_of_its_runtimes() -> None:
    about = runner.describe()
    identity = about["identity"]
    assert identity["kernel"] and 1 <= identity["physical_cores"] <= about["logical_cores"]
    record = (onnxruntime_folder() / "RECORD").read_text()
    lines = [line for line in record.splitlines() if re.search(r"\.so[.,]", line)]
    assert any("onnxruntime_pybind11_state" in line for line in lines)
    assert identity["libraries_sha256"]["onnxruntime"] == sha256_of_bytes("\n".join(sorted(lines)).encode())
    assert identity["libraries_sha256"]["ai-edge-litert"] and identity["libraries_sha256"]["tflite-runtime"] is None


def onnxruntime_folder() -> Path:
    from importlib import metadata

    (record,) = [path for path in metadata.files("onnxruntime") or [] if path.name == "RECORD"]
    return Path(str(record.locate())).parent


def test_an_unknown_mode() -> None:
    done = subprocess.run([sys.executable, str(RUNNER), "fly"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "expected nothing, `supervise` or `keep DIR`; found 'fly'" in done.stderr


def test_the_samples_of_a_timing_are_as_many_as_asked(master_bundle: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "in.npy"
    np.save(inputs, np.zeros((1, 8, 8, 1), np.int8))
    started = time.monotonic_ns()
    with Worker("row", timeout_seconds=60, runtime="litert") as worker:
        worker.ask("load", runtime="litert", path=str(master_bundle / "int8.tflite"), options={"threads": 1})
        answer = worker.ask("time", inputs=str(inputs), runs=7, seconds=60, discarded=3)
    elapsed = time.monotonic_ns() - started
    assert len(answer["samples_ns"]) == 7 and 0 < sum(answer["samples_ns"]) < elapsed and answer["first_ms"] > 0
