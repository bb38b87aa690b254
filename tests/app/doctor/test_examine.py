"""`edgeship doctor`: what it says here, of installed, missing and broken packages, and of CPUs."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
from importlib import metadata
from types import SimpleNamespace

import pytest
from rich.console import Console

from edgeship.app.doctor import examine as doctor
from edgeship.app.doctor import trials as doctor_trials
from edgeship.app.doctor.examine import Finding, examine, render, this_machine
from edgeship.core import cpu
from edgeship.core.errors import RuntimeFailure
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.arm64_processors import PROCESSORS
from edgeship.validate.targets.arm64_root import installed_versions
from edgeship.validate.targets.browser_files import find_chromium, find_modules
from edgeship.validate.targets.table import TARGETS
from edgeship.validate.targets.target import Target

LOCAL = {"litert": "ai-edge-litert", "litert-reference": "ai-edge-litert", "onnxruntime": "onnxruntime",
         "onnxruntime-unoptimized": "onnxruntime"}
NO_ARM64 = (
    "no qemu-aarch64" if shutil.which("qemu-aarch64") is None else
    "`edgeship setup arm64` was not run" if installed_versions() is None else ""
)
NO_BROWSER = (
    "no Chromium" if find_chromium() is None else
    "`edgeship setup browser` was not run" if find_modules() is None else ""
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed versions, to be changed by a test."""
    versions = {"edgeship": "0.1.0", "onnx": "1.23.2", "numpy": "2.4.6"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    return versions


def require(monkeypatch: pytest.MonkeyPatch, *requirements: str) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: list(requirements))


# This environment --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> tuple[dict[str, Finding], set[str]]:
    """What `edgeship doctor --json` says here, and the modules that its process has loaded then.

    A doctor whose patience does not end: a busy machine is no finding of these tests.
    """
    code = (
        "import sys\n"
        "from edgeship.app.doctor import trials\n"
        "trials.TRIAL_SECONDS = trials.GROUP_SECONDS = trials.DEADLINE_SECONDS = 800.0\n"
        "from edgeship.app.cli.main import main\n"
        "if main(['doctor', '--json']) == 0: print('LOADED', *sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, loaded = child.stdout.partition("LOADED")
    return {item["name"]: Finding(**item) for item in json.loads(text)}, set(loaded.split())


def test_every_runtime_and_target_has_a_finding(here) -> None:
    findings, _ = here
    for kind, names in {"runtime": set(RUNTIMES), "target": set(TARGETS)}.items():
        # An emulated target may have a finding for each of its processors: "x86:haswell".
        assert names <= {finding.name.partition(":")[0] for finding in findings.values() if finding.kind == kind}
    assert findings["onnx"].kind == "tool"


def test_the_runtimes_of_this_machine_run(here) -> None:
    findings, _ = here
    for name, package in {**LOCAL, "onnx": "onnx"}.items():
        assert findings[name].works is True, findings[name]
        assert findings[name].how_to_install is None
        assert findings[name].detail.startswith(f"{package} {metadata.version(package)}")


def test_doctor_loads_no_native_library_itself(here) -> None:
    _, loaded = here
    assert "edgeship.app.doctor.examine" in loaded
    assert not {"tensorflow", "tf_keras", "onnxruntime", "ai_edge_litert", "onnx"} & loaded


@pytest.mark.skipif(bool(NO_ARM64), reason=NO_ARM64)
def test_the_emulated_processors_run_here(here) -> None:
    findings, _ = here
    for name in ("arm64", *(f"arm64:{model}" for model in PROCESSORS)):
        assert findings[name].works is True, findings[name]
    assert findings["arm64"].detail.startswith("qemu-aarch64 version")
    assert f"onnxruntime {(installed_versions() or {})['onnxruntime']}" in findings["arm64"].detail
    assert findings["arm64:max"].detail.startswith("litert and onnxruntime ran; 8-bit matrix products")


@pytest.mark.skipif(bool(NO_ARM64), reason=NO_ARM64)
def test_instructions_are_counted_here(here) -> None:
    usage = subprocess.run(["qemu-aarch64", "-h"], capture_output=True, text=True, check=False).stdout
    if "-plugin" not in usage:
        pytest.skip("this qemu-aarch64 takes no plug-ins")
    findings, _ = here
    assert findings["arm64"].detail.endswith("; instructions are counted")


@pytest.mark.skipif(bool(NO_BROWSER), reason=NO_BROWSER)
def test_the_web_runtimes_run_in_the_browser_here(here) -> None:
    findings, _ = here
    for name in ("litert-web", "onnxruntime-web", "browser"):
        assert findings[name].works is True, findings[name]
    assert findings["onnxruntime-web"].detail.startswith("onnxruntime-web ")
    assert findings["litert-web"].detail.startswith("@litertjs/core ")
    assert findings["browser"].detail.startswith("Chromium ")
    assert str(find_chromium()) in findings["browser"].detail


@pytest.mark.parametrize(("name", "said"), [("ssh", "boards are named on the command line"), ("adb", "devices")])
def test_the_clients_here(here, name: str, said: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"no {name}")
    findings, _ = here
    assert findings[name].works is True, findings[name]
    assert said in findings[name].detail


def test_what_is_for_phones_is_neither_there_nor_missing(here) -> None:
    findings, _ = here
    assert findings["benchmark-model"].works is None
    assert "--benchmark-model FILE" in findings["benchmark-model"].detail
    assert findings["onnxruntime-perf-test"].works is None
    assert "--perf-test FILE" in findings["onnxruntime-perf-test"].detail


def test_a_failing_examination_is_a_finding(monkeypatch) -> None:
    """By a clock that stands while the first two are waited for, so that they end in time on any machine."""
    def fail() -> list[Finding]:
        raise PermissionError("not yours")

    finding = Finding(name="b", kind="runtime", works=True, detail="fine")
    clock = iter([0.0, 0.0, 0.0, 600.0])  # the start, and each wait
    monkeypatch.setattr(doctor_trials, "time", SimpleNamespace(monotonic=clock.__next__))
    monkeypatch.setattr(doctor, "DEADLINE_SECONDS", 60)
    monkeypatch.setattr(doctor, "_jobs", lambda: [
        ("target", "a", fail), ("runtime", "b", lambda: [finding]), ("tool", "c", threading.Event().wait),
    ])
    good, failed, late = examine()
    assert good == finding
    assert (failed.name, failed.works) == ("a", False)
    assert failed.detail == "could not be examined (PermissionError: not yours)"
    assert (late.name, late.works) == ("c", False)
    assert late.detail.startswith("no answer after 60 s")


# Packages ----------------------------------------------------------------------------------------------------


def test_a_missing_package_says_how_to_install_the_pinned_version(monkeypatch, installed) -> None:
    require(monkeypatch, "onnxruntime==1.32.0", "tf-keras==2.21.*", 'onnxruntime>=9; extra == "x"')
    (finding,) = doctor._local_runtime("onnxruntime")
    assert finding == Finding(
        name="onnxruntime", kind="runtime", works=False, detail="onnxruntime is not installed",
        how_to_install="pip install onnxruntime==1.32.0",
    )
    keras = doctor._installed("keras", "runtime", ("tensorflow", "tf-keras"))
    assert (keras.works, keras.detail) == (False, "tensorflow, tf-keras not installed")
    assert keras.how_to_install == 'pip install tensorflow "tf-keras==2.21.*"'


@pytest.mark.parametrize(("code", "said"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it crashed (SIGSEGV)"),
    ("raise ImportError('libfoo.so: cannot open [shared] object')", "libfoo.so: cannot open [shared] object"),
    ("raise SystemExit(3)", "exit code 3"),
    ("raise SystemExit(0)", "exit code 0"),
])
def test_a_package_that_cannot_be_loaded(monkeypatch, code: str, said: str) -> None:
    monkeypatch.setattr(doctor, "ONNX_TRIAL", code)
    (finding,) = doctor._onnx()
    assert not finding.works
    assert "is installed, but does not work: " in finding.detail
    assert said in finding.detail
    assert finding.how_to_install is not None
    assert "--force-reinstall" in finding.how_to_install


def test_a_package_that_hangs(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "TRIAL_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "ONNX_TRIAL", "import time; time.sleep(60)")
    (finding,) = doctor._onnx()
    assert not finding.works
    assert "no answer after 0.5 s" in finding.detail
    assert finding.how_to_install is None  # nothing says that the package is to blame


def test_a_runtime_that_does_not_run(monkeypatch) -> None:
    def fail(target: Target, runtime: str) -> None:
        raise RuntimeFailure(f"{runtime} is broken on {target.name}")

    monkeypatch.setattr(doctor, "infer", fail)
    (finding,) = doctor._local_runtime("litert-reference")
    assert (finding.name, finding.kind, finding.works) == ("litert-reference", "runtime", False)
    assert f"ai-edge-litert {metadata.version('ai-edge-litert')} is installed, but does not work: " in finding.detail
    assert finding.detail.endswith("litert-reference is broken on cpu")


def test_what_a_library_prints_is_not_its_answer() -> None:
    assert doctor._run_trial("print('hello', end=''); detail = ' and \"more\"'") == ' and "more"'


# Pins --------------------------------------------------------------------------------------------------------


def test_pins_that_hold(monkeypatch, installed) -> None:
    require(monkeypatch, "onnx==1.23.2", "numpy>=2.0,<3", "tensorflow==2.21.*", 'onnx<1; extra == "old"')
    (finding,) = doctor._pins()
    assert finding.works


def test_pins_that_do_not_hold(monkeypatch, installed) -> None:
    require(monkeypatch, "onnx==1.23.2", "numpy>=2.0,<3")
    installed.update(onnx="1.17.0", numpy="1.26.4")
    (finding,) = doctor._pins()
    assert not finding.works
    assert "onnx 1.17.0 instead of ==1.23.2" in finding.detail
    assert "numpy 1.26.4" in finding.detail
    assert finding.how_to_install is not None
    assert '"onnx==1.23.2"' in finding.how_to_install


def test_no_pins_without_an_installed_edgeship(monkeypatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", requires)
    assert doctor._pins() == []


# The CPU -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "machine", "said"), [
    ({"avx2", "sse"}, "x86_64", "x86_64, avx2: x86 with AVX2, no VNNI: of the int8 ONNX files only U8U8 is right here"),
    ({"avx2", "avx_vnni"}, "AMD64", "AMD64, avx2 avx_vnni: x86 with VNNI: of the int8 ONNX files U8S8 and U8U8 are"),
    ({"avx2", "avx512_vnni"}, "x86_64", "U8S8 is the fastest"),
    ({"sse4_2"}, "x86_64", "x86 without AVX2: of the int8 ONNX files U8S8 and U8U8 are right here"),
    ({"sse4_2"}, "x86_64", "no AVX2: expect int8 to be slow"),
    ({"asimddp", "i8mm"}, "aarch64", "aarch64, asimddp i8mm: Arm with dot products"),
    ({"asimd"}, "aarch64", "Arm, plain NEON: of the int8 ONNX files S8S8 and U8S8 and U8U8 are right here, S8S8"),
    (None, "x86_64", "instructions unknown: without VNNI, U8S8 ONNX saturates; U8U8"),
    (None, "arm64", "arm64, instructions unknown: U8U8 ONNX is right everywhere"),
    ({"v"}, "riscv64", "riscv64: U8U8 ONNX is right everywhere"),
])
def test_what_a_cpu_means_for_int8(flags, machine: str, said: str) -> None:
    finding = this_machine(None if flags is None else frozenset(flags), machine=machine)
    assert (finding.name, finding.kind, finding.works) == ("cpu", "target", True)
    assert said in finding.detail


def test_an_onnxruntime_with_wrong_kernels_is_named(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "1.23.1")
    vnni = this_machine(frozenset({"avx2", "avx512_vnni"}), machine="x86_64").detail
    assert "ONNX Runtime 1.23.1 has wrong int8 kernels for AMX and VNNI: use 1.28 or newer" in vnni
    assert "wrong" not in this_machine(frozenset({"avx2"}), machine="x86_64").detail


@pytest.mark.parametrize(("text", "expected"), [
    ("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: other\n", frozenset({"fpu", "avx2"})),
    ("processor\t: 0\nFeatures\t: fp asimddp\n", frozenset({"fp", "asimddp"})),
    ("nothing of use", None),
])
def test_cpu_flags(monkeypatch, tmp_path, text: str, expected) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_flags() == expected


def test_no_cpuinfo(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "none")
    assert cpu.cpu_flags() is None


# The table ---------------------------------------------------------------------------------------------------


def test_render() -> None:
    stream = io.StringIO()
    Console(file=stream, width=100).print(render([
        Finding(name="litert", kind="runtime", works=True, detail="ai-edge-litert 2.3.0"),
        Finding(name="benchmark-model", kind="runtime", works=None, detail="a program for the phone"),
        Finding(name="onnx", kind="tool", works=False, detail="broken [bold]", how_to_install="pip install onnx"),
    ]))
    lines = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert ["runtime", "litert", "yes", "ai-edge-litert", "2.3.0"] in lines
    assert ["benchmark-model", "given", "by", "you", "a", "program", "for", "the", "phone"] in lines
    assert ["tool", "onnx", "no", "broken", "[bold]"] in lines
    assert ["to", "install:", "pip", "install", "onnx"] in lines
