"""What this machine is, and what slows it down right now."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from edgeship.core.files import sha256_of_bytes
from edgeship.validate.runner import state, system
from edgeship.validate.runner.machine import describe
from edgeship.validate.runner.state import device_state


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
    real = system.texts
    monkeypatch.setattr(system, "texts", lambda folder, pattern: real(str(tmp_path), pattern))
    monkeypatch.setattr(state, "POWER_SUPPLIES", tmp_path)
    vcgencmd = tmp_path / "bin" / "vcgencmd"
    vcgencmd.parent.mkdir()
    vcgencmd.write_text("#!/bin/sh\necho throttled=0x50005\n")
    vcgencmd.chmod(0o755)
    monkeypatch.setenv("PATH", str(vcgencmd.parent), prepend=os.pathsep)
    found = device_state()
    assert {key: found[key] for key in (
        "temperature_c", "clock_mhz", "max_clock_mhz", "governor", "throttled", "battery_percent", "plugged"
    )} == {
        "temperature_c": 61.5, "clock_mhz": 1500.0, "max_clock_mhz": 2400.0, "governor": "ondemand",
        "throttled": "0x50005", "battery_percent": 83, "plugged": ["AC"],
    }


def test_what_a_device_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "texts", lambda folder, pattern: [])
    monkeypatch.setattr(system, "text", lambda path: "")
    monkeypatch.setattr(state, "POWER_SUPPLIES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = device_state()
    found.pop("load_average_1min")
    assert set(found.pop("counters").values()) == {None} and set(found.values()) == {None}
    identity = describe()["identity"]
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
    monkeypatch.setattr(system, "text", lambda path: files.get(path, ""))
    assert describe()["identity"]["cgroup_cpu_max"] == limit
    assert device_state()["counters"]["throttled_periods"] == throttled_periods


def test_pressure_steal_and_turbo_of_a_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/pressure/cpu": "some avg10=12.50 avg60=3.14 avg300=5.55 total=1664433953\nfull avg10=0.00 avg60=0.00",
        "/proc/stat": "cpu  900 200 100 5000 60 0 20 320 7 7\ncpu0 450 100 50 2500 30 0 10 160 7 7\n",
        "/sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
    }
    monkeypatch.setattr(system, "text", lambda path: files.get(path, ""))
    found = device_state()
    assert found["cpu_pressure_percent"] == 12.5 and found["turbo"] is False
    # guest time is in user time already
    assert found["counters"]["cpu_ticks"] == 6600 and found["counters"]["steal_ticks"] == 320
    del files["/sys/devices/system/cpu/intel_pstate/no_turbo"]
    files["/sys/devices/system/cpu/cpufreq/boost"] = "1\n"
    assert device_state()["turbo"] is True


def test_this_machine_tells_its_identity_and_the_hash_of_its_runtimes() -> None:
    about = describe()
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
