"""The adb target against the real adb client and a real adbd (of Debian, in a network namespace of its own).

The tools of the runtimes' makers are stubs of ours: see stub_benchmark_model.py. What needs no device is tested with
a stub of adb.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeship.core.artifact import GOLDEN_FILE, MANIFEST_FILE, manifest_from_json
from edgeship.core.errors import ConfigError, TargetFailure
from edgeship.core.integers import quantize
from edgeship.validate.process.client import Worker
from edgeship.validate.runner.table import DEVICE_RUNTIMES
from edgeship.validate.targets.adb import AdbTarget, parse_name
from edgeship.validate.targets.adb_state import (
    Attached,
    choose,
    parse_battery,
    parse_devices,
    parse_properties,
    parse_thermal,
)
from edgeship.validate.timing.sequential import ADJACENT_LOOKS
from tests.support import two_ends

TESTS = Path(__file__).parents[2]
RECORDED = TESTS / "validate" / "recorded"
SESSION_SECONDS = 600
TWO_ENDS_EXAMPLES = 20  # more than the bridge's batch
SCENARIOS = (
    "python_on_the_device", "nothing_is_left", "stub_tools_beside_python", "stub_tool_with_two_inputs",
    "stub_tool_without_python",
    "compared_by_a_stub_tool",
    "stub_tool_that_fails", "tool_that_is_not_there", "neither_python_nor_tools", "python_without_numpy",
    "folder_that_is_not_there", "wrong_serial", "several_devices", "files", "full_storage", "altered_model",
    "crash_of_the_runtime", "devices_that_misbehave", "keeper_ends", "link_is_cut", "link_is_cut_under_a_stub_tool",
    "bridge_is_killed", "no_device",
)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def device_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("adb_device", TESTS / "support" / "adb_device.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan(master_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The golden images in both files' input types, and where the session is to put things."""
    folder = tmp_path_factory.mktemp("adb")
    manifest = manifest_from_json((master_bundle / MANIFEST_FILE).read_text(), where=master_bundle)
    with np.load(master_bundle / GOLDEN_FILE) as golden:
        values = golden["inputs"]
    made: dict[str, Any] = {"folder": str(folder), "result": str(folder / "result.json"), "images": {}, "specs": {}}
    for artifact in manifest.artifacts:
        kind, image, output = artifact.format, artifact.inputs[0], artifact.outputs[0]
        path = folder / f"images-{kind}.npy"
        np.save(path, quantize(values, image))
        made[kind] = str(master_bundle / artifact.file)
        made["images"][kind] = str(path)
        made["specs"][kind] = {
            "inputs": [{"name": image.name, "shape": [1, *values.shape[1:]], "dtype": image.dtype}],
            "outputs": [{"name": output.name, "shape": [1, *output.shape[1:]], "dtype": output.dtype}],
        }
    made["two_ends"] = two_ends_plan(folder)
    return made


def two_ends_plan(folder: Path) -> dict[str, Any]:
    """A file of two inputs and two outputs, with examples."""
    path, inputs = folder / "two-ends.tflite", [folder / f"two-ends-{number}.npy" for number in range(2)]
    path.write_bytes(two_ends.tflite_file())
    for file, values in zip(inputs, two_ends.examples(TWO_ENDS_EXAMPLES), strict=True):
        np.save(file, values)
    ends = {
        "inputs": {"picture": (two_ends.PICTURE, "float32"), "words": (two_ends.WORDS, "int32")},
        "outputs": {"scores": (two_ends.SCORES, "float32"), "map": (two_ends.MAP, "float32")},
    }
    specs = {
        end: [{"name": name, "shape": list(shape), "dtype": dtype} for name, (shape, dtype) in items.items()]
        for end, items in ends.items()
    }
    return {"file": str(path), "inputs": list(map(str, inputs)), "specs": specs}


@pytest.fixture(scope="module")
def session(plan: dict[str, Any]) -> dict[str, Any]:
    """What each scenario of adb_session.py found."""
    return run_session(plan, "fetch", SCENARIOS, {})


@pytest.fixture(scope="module")
def arm64_session(plan: dict[str, Any]) -> dict[str, Any]:
    """The same with an arm64 adbd, and an arm64 Python behind it, under proot and qemu."""
    folder = Path(plan["folder"]) / "arm64"
    folder.mkdir()
    return run_session(plan, "fetch_arm64", ("python_on_the_device", "nothing_is_left"), {
        "arm64": True, "python": "env PYTHONPATH=/wheels python3", "folder": str(folder),
        "result": str(folder / "result.json"),
    })


def run_session(
    plan: dict[str, Any], fetch: str, scenarios: tuple[str, ...], changes: dict[str, Any]
) -> dict[str, Any]:
    for tool, package in (("adb", "adb"), ("unshare", "util-linux")):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the command {tool} (package {package})")
    device = device_module()
    plan = {**plan, **changes, "scenarios": scenarios}
    try:
        plan["root"] = str(getattr(device, fetch)())
        file = Path(plan["folder"]) / "plan.json"
        file.write_text(json.dumps(plan))
        device.run_inside(TESTS / "support" / "adb_session.py", [str(file)], timeout_seconds=SESSION_SECONDS)
    except device.NotAvailable as error:
        pytest.skip(str(error))
    result: dict[str, Any] = json.loads(Path(plan["result"]).read_text())
    return result


@pytest.fixture(scope="module")
def local_outputs(plan: dict[str, Any]) -> dict[str, np.ndarray]:
    """What this machine's own runtimes give for the same files."""
    outputs = {}
    for runtime, kind in (("litert", "tflite"), ("onnxruntime", "onnx")):
        path = Path(plan["folder"]) / f"local-{kind}.npy"
        with Worker(runtime, timeout_seconds=60) as worker:
            worker.ask("load", runtime=runtime, path=plan[kind], options={"threads": 1})
            worker.ask("run", inputs=[plan["images"][kind]], outputs=[str(path)])
        outputs[kind] = np.load(path)
    return outputs


def assert_error(found: Any, kind: str, *parts: str) -> None:
    assert found["type"] == kind, found
    for part in parts:
        assert part in found["message"], found["message"]


@pytest.mark.parametrize(("runtime", "kind"), [("litert", "tflite"), ("onnxruntime", "onnx")])
def test_a_runtime_on_the_device_gives_the_same_bits(
    session: dict[str, Any], local_outputs: dict[str, np.ndarray], runtime: str, kind: str
) -> None:
    answer = session["python_on_the_device"][runtime]
    outputs = np.load(answer["outputs"])
    assert outputs.dtype == local_outputs[kind].dtype
    assert outputs.tobytes() == local_outputs[kind].tobytes()
    assert len(answer["timed"]["samples_ns"]) == 10
    assert answer["loaded"]["load_ms"] > 0


def test_an_arm64_device_gives_the_same_bits(
    arm64_session: dict[str, Any], local_outputs: dict[str, np.ndarray]
) -> None:
    """Real NEON kernels behind a real adbd; ONNX Runtime rounds some values the other way there."""
    found = arm64_session["python_on_the_device"]
    assert found["about"]["architecture"] == "aarch64"
    assert "asimddp" in found["about"]["cpu_flags"]
    assert np.load(found["litert"]["outputs"]).tobytes() == local_outputs["tflite"].tobytes()
    outputs = np.load(found["onnxruntime"]["outputs"]).astype(int)
    assert np.abs(outputs - local_outputs["onnx"]).max() <= 1
    assert arm64_session["nothing_is_left"] == {"left": [], "processes": []}


def test_the_device_says_what_it_is(session: dict[str, Any]) -> None:
    found = session["python_on_the_device"]
    assert found["runtimes"] == list(DEVICE_RUNTIMES)
    assert found["kind"] == "device"
    assert found["about"]["serial"] == "127.0.0.1:5555"
    assert found["about"]["logical_cores"] > 0
    assert found["about"]["versions"]["numpy"] == np.__version__
    assert "android" not in found["about"]  # plain Linux has no getprop
    assert found["state"]["thermal_status"] is None
    assert found["state"]["battery_temperature_c"] is None
    assert found["state"]["load_average_1min"] is not None


def test_nothing_is_left_on_the_device(session: dict[str, Any]) -> None:
    assert session["nothing_is_left"] == {"left": [], "processes": []}


def test_outputs_through_a_stub_of_benchmark_model_are_the_same_bits(
    session: dict[str, Any], local_outputs: dict[str, np.ndarray]
) -> None:
    found = session["stub_tools_beside_python"]
    assert found["runtimes"] == [*DEVICE_RUNTIMES, "benchmark-model", "onnxruntime-perf-test"]
    answer = found["benchmark-model"]
    assert np.load(answer["outputs"]).tobytes() == local_outputs["tflite"].tobytes()
    assert answer["loaded"]["load_ms"] > 0
    assert answer["notes"] == ["TfLiteXNNPackDelegate took 7 of 7 operations"]
    assert answer["memory"] == {"peak_memory_bytes": int(21.5 * 1024 * 1024)}
    summary = answer["timed"]["summary"]
    assert answer["timed"]["samples_ns"] == []
    assert summary["count"] == 10
    assert 0 < summary["min_ms"] <= summary["median_ms"] <= summary["max_ms"]
    assert len(found["about"]["benchmark-model sha256"]) == 64
    assert found["left"] == []


def test_a_stub_of_benchmark_model_takes_two_inputs_and_gives_two_outputs(session: dict[str, Any]) -> None:
    found = session["stub_tool_with_two_inputs"]
    wanted = two_ends.expected(*two_ends.examples(TWO_ENDS_EXAMPLES))
    # A sum of 60 products of numbers below 4: float32 rounds each to 2^-24 of it at most.
    for path, values in zip(found["outputs"], wanted, strict=True):
        assert np.load(path).shape == values.shape and np.abs(np.load(path) - values).max() < 60 * 8 * 2.0**-24
    assert found["timed"]["summary"]["count"] == 3
    assert found["left"] == []


def test_the_bridges_leave_only_what_was_put_there(session: dict[str, Any]) -> None:
    assert [name for name in session["stub_tools_beside_python"]["inside"] if name.startswith("tool-")] == []


def test_a_stub_of_perf_test_tells_times_and_no_outputs(session: dict[str, Any]) -> None:
    answer = session["stub_tools_beside_python"]["onnxruntime-perf-test"]
    assert answer["ran"] == {"not_measured": "onnxruntime_perf_test gives no outputs"}
    assert len(answer["timed"]["samples_ns"]) == 10
    assert min(answer["timed"]["samples_ns"]) > 0
    assert answer["memory"] == {"peak_memory_bytes": 91336704}


def test_a_device_without_python_runs_what_the_user_gave(session: dict[str, Any]) -> None:
    found = session["stub_tool_without_python"]
    assert found["runtimes"] == ["benchmark-model"]
    assert found["about"]["architecture"]
    assert found["about"]["python"] is None
    assert found["state"]["battery_percent"] is None
    assert_error(found["refused"], "TargetFailure", "expected 'no-such-python' there, found no such command")
    assert found["left"] == []
    assert found["tool"]  # it was there before us, and stays


def test_a_stub_of_litert_s_own_build_gives_times_only(session: dict[str, Any]) -> None:
    answer = session["stub_tool_without_python"]["answer"]
    assert "gives no outputs (it ignored --output_filepath)" in answer["ran"]["not_measured"]
    assert answer["ran"]["not_measured"] in answer["notes"]
    assert answer["timed"]["summary"]["count"] == 10


def test_a_tool_that_fails_is_told_in_its_own_words(session: dict[str, Any]) -> None:
    assert_error(
        session["stub_tool_that_fails"], "RuntimeFailure", "ToolFailed while loading the file",
        "ended with exit code 1", "ERROR: Failed to load model",
    )


def test_a_tool_that_is_not_there(session: dict[str, Any]) -> None:
    found = session["tool_that_is_not_there"]
    assert_error(found["here"], "TargetFailure", "/no/such/tool: expected a file here, found none")
    assert_error(found["there"], "TargetFailure", "/no/such/tool: expected an executable file there, found none")
    assert found["left"] == []


def test_a_device_with_nothing_to_run_on_says_how_to_get_it(session: dict[str, Any]) -> None:
    error, left = session["neither_python_nor_tools"]
    assert_error(error, "TargetFailure", "validate.device_python", "Termux", "validate.benchmark_model")
    assert left == []


def test_python_without_numpy(session: dict[str, Any]) -> None:
    error, left = session["python_without_numpy"]
    assert_error(error, "TargetFailure", "numpy is not installed there", "-m pip install numpy")
    assert left == []


def test_a_folder_that_is_not_there(session: dict[str, Any]) -> None:
    assert_error(session["folder_that_is_not_there"], "TargetFailure", "/no/such/folder", "validate.device_folder")


def test_a_wrong_serial(session: dict[str, Any]) -> None:
    assert_error(
        session["wrong_serial"], "TargetFailure", "expected the device 39071FDJH00123, found 127.0.0.1:5555 (device)"
    )


def test_several_devices_are_listed(session: dict[str, Any]) -> None:
    assert_error(
        session["several_devices"], "TargetFailure", "expected one device", "localhost:5555 (device)",
        "choose one with adb:SERIAL",
    )


def test_files_arrive_whole_and_once(session: dict[str, Any]) -> None:
    found = session["files"]
    assert found["name"].endswith("--it_s_a__model_.tflite")
    assert {key: found[key] for key in ("once", "same", "gone", "anew", "changed")} == dict.fromkeys(
        ("once", "same", "gone", "anew", "changed"), True
    )
    assert found["left"] == []
    assert_error(found["missing"], "TargetFailure", "adb pull failed", "/no/such/file")


def test_a_full_storage(session: dict[str, Any]) -> None:
    found = session["full_storage"]
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert_error(found["error"], "TargetFailure", "no space left there", "validate.device_folder")
    assert found["inside"] == ["runner.pyz"]  # the half of the file that fitted is removed
    assert found["left"] == []


def test_a_model_altered_on_the_device_is_not_run(session: dict[str, Any]) -> None:
    assert_error(session["altered_model"], "TargetFailure", "altered on the way")


def test_a_crash_on_the_device_is_not_the_target_s_fault(session: dict[str, Any]) -> None:
    assert_error(session["crash_of_the_runtime"], "RuntimeFailure", "crashed (SIGKILL) while timing inferences")


def test_devices_that_misbehave_are_told_apart(session: dict[str, Any]) -> None:
    found = session["devices_that_misbehave"]
    missing = "ai-edge-litert is not installed there", "-m pip install ai-edge-litert"
    assert_error(found["missing"], "TargetFailure", *missing)
    assert_error(found["hangs"], "RuntimeFailure", "hung while loading the file: no answer for 5 s")
    assert_error(found["garbage"], "RuntimeFailure", "expected one JSON answer while loading the file, found 'hello'")
    assert found["left"] == []


def test_without_its_keeper_the_target_is_not_fit(session: dict[str, Any]) -> None:
    state, run, left, left_at_last = session["keeper_ends"]
    assert_error(state, "TargetFailure", "the link was cut")
    assert run["type"] == "TargetFailure"
    assert left == []  # it took the folder with it
    assert left_at_last == []  # which a push had made anew


def test_a_cut_link_is_told_from_success(session: dict[str, Any]) -> None:
    """adb itself ends with exit code 0 then."""
    found = session["link_is_cut"]
    assert_error(found["error"], "TargetFailure", "the link was cut", "while timing inferences")
    assert_error(found["state"], "TargetFailure", "the link was cut")
    assert_error(found["put"], "TargetFailure", "the link was cut")
    assert found["left"] == []  # the device's end removed the folder by itself


def test_a_cut_link_under_a_bridge(session: dict[str, Any]) -> None:
    found = session["link_is_cut_under_a_stub_tool"]
    assert_error(found["error"], "TargetFailure", "the link was cut")
    assert found["left"] == []
    assert found["tools"] == []  # what it had started there has ended too


def test_a_killed_bridge_leaves_no_tool_running_on_the_device(session: dict[str, Any]) -> None:
    found = session["bridge_is_killed"]
    assert_error(found["error"], "RuntimeFailure", "crashed (SIGKILL) while timing inferences")
    assert found["running"]
    assert found["tools"] == []


def test_a_maker_s_tool_compares_by_adjacent_launches(session: dict[str, Any]) -> None:
    """The stub prints the recorded formats, so every line is read as a phone's would be; its times mean nothing."""
    found = session["compared_by_a_stub_tool"]["whole"]
    timing = found["timing"]
    assert found["verdict"] in ("pass", "improved", "inconclusive", "regression"), found["reasons"]
    assert (timing["metric"], timing["rounds"], timing["tolerance"], timing["limit"]) == ("wall_time", 1, 0.03, 0.08)
    assert tuple(timing["looks"]) == ADJACENT_LOOKS
    assert timing["launches"] >= 1
    assert all(len(item["baseline"]["wall_ns"]) == 1 for item in timing["samples"])
    assert timing["samples"][0]["baseline"]["cpu_ns"] == []  # which the tool does not tell
    gates = {item["gate"]: item["outcome"] for item in found["exact"]}
    assert gates["operations"] == "not measured"
    assert gates["multiply_accumulates"] == "same"


def test_a_device_that_disappears_in_the_middle_of_a_comparison(session: dict[str, Any]) -> None:
    found = session["compared_by_a_stub_tool"]
    assert found["cut"]["verdict"] == "refused"
    assert "the link was cut" in found["cut"]["reasons"][0]
    assert found["cut"]["timing"]["samples"]  # what was measured until then is kept
    assert "the link was cut" in found["cut"]["timing"]["stopped"]
    assert found["left"] == []


def test_no_device(session: dict[str, Any]) -> None:
    assert_error(session["no_device"], "TargetFailure", "expected a device, found none", "USB debugging")


def test_devices_in_every_state() -> None:
    devices = parse_devices(recorded("adb_devices.txt"))
    assert [device.state for device in devices] == ["device", "unauthorized", "offline", "no permissions", "recovery"]
    assert "model:Pixel_8" in devices[0].details
    assert choose(devices, "39071FDJH00123") is devices[0]


@pytest.mark.parametrize(("serial", "message"), [
    ("R58M12ABCDE", "R58M12ABCDE is unauthorized; unlock it and accept this computer's key"),
    ("192.168.7.20:5555", "is offline; take the cable out"),
    ("0a1b2c3d", "is no permissions; this user may not open the USB device"),
    ("emulator-5554", "is recovery; start Android on it"),
    ("nobody", r"expected the device nobody, found 39071FDJH00123 \(device\), R58M12ABCDE \(unauthorized\)"),
    (None, "expected one device, found .* choose one with adb:SERIAL"),
])
def test_a_device_that_is_not_ready(serial: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(parse_devices(recorded("adb_devices.txt")), serial)


def test_an_empty_list_and_no_list() -> None:
    assert parse_devices("List of devices attached\n\n") == ()
    with pytest.raises(ValueError, match="expected a list of devices, found 'adb: usage'"):
        parse_devices("adb: usage\n")


def test_the_only_device_needs_no_serial() -> None:
    device = Attached("abc", "device", "")
    assert choose([device], None) is device


def test_what_android_says_of_itself() -> None:
    assert parse_properties(recorded("getprop.txt")) == {
        "manufacturer": "Google", "model": "Pixel 8", "abi": "arm64-v8a", "android": "15",
        "build": "google/shiba/shiba:15/AP4A.250105.002/12701944:user/release-keys",
    }
    assert parse_properties("sh: getprop: not found") == {}


def test_battery_and_thermal_status() -> None:
    battery = parse_battery(recorded("dumpsys_battery.txt"))
    thermal = parse_thermal(recorded("dumpsys_thermalservice.txt"))
    assert (battery.level_percent, battery.temperature_c, battery.plugged) == (71, 29.3, ("USB",))
    assert (thermal.status, thermal.cpu_temperature_c) == ("moderate", 41.25)  # not the 88.5 that are only remembered


@pytest.mark.parametrize("text", ["", "sh: dumpsys: not found", "Can't find service: battery", "level: full\nscale: 0"])
def test_what_is_not_told_is_none(text: str) -> None:
    battery, thermal = parse_battery(text), parse_thermal(text)
    assert (battery.level_percent, battery.temperature_c, battery.plugged) == (None, None, None)
    assert (thermal.status, thermal.cpu_temperature_c) == (None, None)


def test_a_thermal_status_of_the_future_is_not_known() -> None:
    assert parse_thermal("Thermal Status: 12\n").status is None


@pytest.mark.parametrize(("name", "serial"), [
    ("adb", None), ("adb:39071FDJH00123", "39071FDJH00123"), ("adb:192.168.7.20:5555", "192.168.7.20:5555"),
])
def test_the_name_of_the_target(name: str, serial: str | None) -> None:
    assert parse_name(name) == serial


@pytest.mark.parametrize("name", ["adb:", "adb:-s", "adb: x", "adb:a b", "adbx", "ssh:x"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected adb or adb:SERIAL"):
        AdbTarget(name)


def test_adb_that_is_not_installed() -> None:
    with pytest.raises(TargetFailure, match=r"expected the command 'no-such-adb', found none; install .*package adb"), \
            AdbTarget("adb", adb="no-such-adb"):
        pass


def stub_adb(folder: Path, body: str) -> str:
    """A stub of adb: a shell script of ours that lists one device and does as `body` says for `adb -s SERIAL ...`."""
    path = folder / "adb"
    path.write_text(
        '#!/bin/sh\n[ "$1" = devices ] && { echo "List of devices attached"; echo "abc device"; exit 0; }\n'
        f"shift 2\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("body", "message"), [
    ("exit 0", "the link was cut"),  # as the real one does when the link is cut
    ("echo half of the out; exit 0", r"the link was cut \(half of the out\)"),
    ("echo 'error: device offline'; exit 1", r"the link was cut \(error: device offline\)"),
    ("echo; echo edgeship-exit-code=none; exit 0", "the link was cut"),
    ("echo \"error: target doesn't support PTY args -Tt\"; exit 1", "expected Android 7 or newer there"),
    ("echo mktemp: not found; echo; echo edgeship-exit-code=127", r"not fit \(mktemp: not found\); choose another"),
])
def test_a_stub_of_adb_that_ends_early(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(TargetFailure, match=message), AdbTarget("adb", adb=stub_adb(tmp_path, body)):
        pass


def test_a_stub_of_adb_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeship.validate.targets import adb_link

    monkeypatch.setattr(adb_link.Adb.shell, "__kwdefaults__", {"timeout_seconds": 0.3})
    monkeypatch.setattr(adb_link.Adb.checked, "__kwdefaults__", {"timeout_seconds": 0.3})
    with pytest.raises(TargetFailure, match=r"no answer for 0\.3 s; check the link"), \
            AdbTarget("adb", adb=stub_adb(tmp_path, "exec sleep 600")):
        pass
