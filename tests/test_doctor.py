"""`edgeship doctor`: what it says of installed, missing and crashing packages, and of CPUs."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib import metadata

import pytest
from rich.console import Console

from edgeship import cpu, doctor
from edgeship.doctor import Finding, examine, render, this_machine


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


def test_examine_here() -> None:
    findings = {finding.name: finding for finding in examine()}
    assert {finding.kind for finding in findings.values()} == {"runtime", "target", "tool"}
    for name, package in (("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime"), ("onnx", "onnx")):
        assert findings[name].works
        assert findings[name].how_to_install is None
        assert findings[name].detail.startswith(f"{package} {metadata.version(package)}")
    assert "CPUExecutionProvider" in findings["onnxruntime"].detail


def test_examine_loads_no_native_library_itself() -> None:
    code = (
        "import sys; from edgeship.doctor import examine; examine()\n"
        "print(sorted({'tensorflow', 'tf_keras', 'onnxruntime', 'ai_edge_litert', 'onnx'} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


# Packages ----------------------------------------------------------------------------------------------------


def test_a_missing_package_says_how_to_install_the_pinned_version(monkeypatch, installed) -> None:
    require(monkeypatch, "onnxruntime==1.32.0", "tf-keras==2.21.*", 'onnxruntime>=9; extra == "x"')
    finding = doctor._try("onnxruntime")
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
    monkeypatch.setitem(doctor.TRIALS, "onnx", ("tool", "onnx", code))
    finding = doctor._try("onnx")
    assert not finding.works
    assert "is installed, but cannot be loaded" in finding.detail
    assert said in finding.detail
    assert finding.how_to_install is not None
    assert "--force-reinstall" in finding.how_to_install


def test_a_package_that_hangs(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "TRIAL_TIMEOUT_S", 0.5)
    assert doctor._run_trial("import time; time.sleep(60)") == (False, "no answer after 0 s")


def test_what_a_library_prints_is_not_its_answer() -> None:
    assert doctor._run_trial("print('hello', end=''); detail = ' and \"more\"'") == (True, ' and "more"')


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
    ({"avx2", "sse"}, "x86_64", "x86_64, avx2: no VNNI: U8S8 ONNX saturates here; U8U8 is right"),
    ({"avx2", "avx_vnni"}, "AMD64", "AMD64, avx2 avx_vnni: VNNI: U8S8 and U8U8 ONNX are both right here"),
    ({"avx2", "avx512_vnni"}, "x86_64", "both right here"),
    (set(), "x86_64", "no AVX2: expect int8 to be slow"),
    ({"asimddp", "i8mm"}, "aarch64", "aarch64, asimddp i8mm: dot products"),
    ({"asimd"}, "aarch64", "no dot products in hardware"),
    (None, "x86_64", "instructions unknown: without VNNI, U8S8 ONNX saturates; U8U8"),
    (None, "arm64", "arm64, instructions unknown: U8U8 ONNX is right everywhere"),
    ({"v"}, "riscv64", "riscv64: U8U8 ONNX is right everywhere"),
])
def test_what_a_cpu_means_for_int8(flags, machine: str, said: str) -> None:
    finding = this_machine(None if flags is None else frozenset(flags), machine=machine)
    assert (finding.kind, finding.works) == ("target", True)
    assert said in finding.detail


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


def test_render() -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(render([
        Finding(name="litert", kind="runtime", works=True, detail="ai-edge-litert 2.3.0"),
        Finding(name="onnx", kind="tool", works=False, detail="broken [bold]", how_to_install="pip install onnx"),
    ]))
    text = stream.getvalue()
    for expected in ("litert", "yes", "no", "broken [bold]", "pip install onnx"):
        assert expected in text
