"""`edgeship doctor` on the targets beside this machine: missing, broken, of other versions, there."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from edgeship.app.doctor import arm64 as doctor_arm64
from edgeship.app.doctor import browser as doctor_browser
from edgeship.app.doctor import devices as doctor_devices
from edgeship.app.doctor import x86 as doctor_x86
from edgeship.app.doctor.examine import Finding
from edgeship.core.files import write_json
from edgeship.validate.targets.arm64_processors import PROCESSORS
from edgeship.validate.targets.browser_files import VERSIONS, find_chromium
from edgeship.validate.targets.setup import BROWSER_PACKAGES

RECORDED = Path(__file__).parents[2] / "validate" / "recorded"
REAL_CHROMIUM = find_chromium()
VERSIONS_THERE = {"numpy": "2.4.6", "onnxruntime": "1.32.0"}


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], Path]:
    """A PATH with nothing on it, a cache folder with nothing in it, and a way to put shell scripts on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("EDGESHIP_CACHE", str(tmp_path / "cache"))
    for name in ("EDGESHIP_CHROMIUM", "EDGESHIP_BROWSER_MODULES", "ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)

    def put(name: str, script: str = "exit 0") -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that are installed here, to be changed by a test."""
    versions = dict(VERSIONS_THERE)
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    return versions


# ssh and adb -------------------------------------------------------------------------------------------------


def test_ssh(programs) -> None:
    (missing,) = doctor_devices.examine_ssh()
    assert (missing.works, missing.detail) == (False, "expected the command ssh, found none")
    assert missing.how_to_install == "apt install openssh-client"
    programs("ssh", "echo 'libcrypto.so: version mismatch' >&2; exit 255")
    (broken,) = doctor_devices.examine_ssh()
    assert not broken.works
    assert "exit code 255: libcrypto.so: version mismatch" in broken.detail
    assert broken.how_to_install == "apt install --reinstall openssh-client"
    programs("ssh", "echo 'OpenSSH_9.9, LibreSSL 3.3' >&2")
    (there,) = doctor_devices.examine_ssh()
    assert (there.works, there.how_to_install) == (True, None)
    assert there.detail.startswith("OpenSSH_9.9; boards are named on the command line")


def answer_once(answer: bytes) -> int:
    """The port of a server that says `answer` to whoever asks for the list of devices."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as client:
            asked = client.recv(100)
            client.sendall(answer if asked == b"000ehost:devices-l" else b"FAIL")

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def adb(programs) -> Callable[[], str]:
    """What doctor says beside the version, with an adb of which only `version` may be asked."""
    programs("adb", '[ "$*" = version ] || exit 9; echo "Android Debug Bridge version 1.0.41"; echo "Version 35.0.2-1"')

    def examined() -> str:
        (finding,) = doctor_devices.examine_adb()
        assert (finding.works, finding.how_to_install) == (True, None)
        assert finding.detail.startswith("adb 35.0.2-1; ")
        return finding.detail.removeprefix("adb 35.0.2-1; ")

    return examined


def test_no_adb(programs) -> None:
    (missing,) = doctor_devices.examine_adb()
    assert (missing.works, missing.detail) == (False, "expected the command adb, found none")
    assert missing.how_to_install == "apt install adb"


def test_no_adb_server_is_started(adb, monkeypatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(closed_port()))
    assert adb() == "devices not listed: no adb server runs, and doctor starts none; `adb devices -l` does"


def test_the_devices_of_a_running_adb_server(adb, monkeypatch) -> None:
    listing = (RECORDED / "adb_devices.txt").read_bytes().partition(b"attached\n")[2]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(answer_once(b"OKAY%04x%s" % (len(listing), listing))))
    said = adb()
    assert said.startswith("devices: 1 ready, 1 unauthorized (unlock it and accept this computer's key")
    for part in ("1 offline (take the cable out", "1 no permissions (this user may not", "1 recovery"):
        assert part in said


def test_no_devices(adb, monkeypatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(answer_once(b"OKAY0000")))
    assert adb() == "devices: 0 ready"


@pytest.mark.parametrize(("answer", "said"), [
    (b"HTTP/1.1 400 Bad Request", "expected OKAY, found b'HTTP'"), (b"", "expected OKAY, found b''"),
    (b"OKAYzzzz", "invalid literal"),
])
def test_something_else_answers_for_the_adb_server(adb, monkeypatch, answer: bytes, said: str) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(answer_once(answer)))
    assert adb().startswith(f"devices not listed: the adb server's answer is not understood ({said}")


@pytest.mark.parametrize("port", ["none", "99999999"])
def test_a_port_that_is_none(adb, monkeypatch, port: str) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
    assert adb().startswith("devices not listed: ")


def test_an_adb_server_elsewhere_is_not_asked(adb, monkeypatch) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", "tcp:build-server:5037")
    assert adb().startswith("devices not listed: ADB_SERVER_SOCKET names a server elsewhere")


@pytest.fixture
def adb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real server, on a port of its own."""
    if shutil.which("adb") is None:
        pytest.skip("no adb")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(closed_port()))
    started = subprocess.run(["adb", "start-server"], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(f"no adb server can be started here: {started.stderr.strip()}")
    yield
    subprocess.run(["adb", "kill-server"], capture_output=True, check=False)


def test_a_real_adb_server(adb_server) -> None:
    (finding,) = doctor_devices.examine_adb()
    assert finding.works
    assert " ready" in finding.detail.partition("; devices: ")[2]


# The emulated processors -------------------------------------------------------------------------------------


def set_up_arm64(tmp_path: Path, *, python: bool = True) -> None:
    """What `edgeship setup arm64` leaves, as far as doctor looks before it runs anything."""
    root = tmp_path / "cache" / "arm64"
    (root / "rootfs" / "usr" / "bin").mkdir(parents=True)
    if python:
        (root / "rootfs" / "usr" / "bin" / "python3.11").touch()
    (root / "libcount.so").touch()
    write_json(root / "complete.json", {"versions": VERSIONS_THERE})


def test_no_arm64_set_up(programs, tmp_path) -> None:
    (finding,) = doctor_arm64.examine_arm64()
    assert (finding.name, finding.kind, finding.works) == ("arm64", "target", False)
    assert "expected the command qemu-aarch64, found none" in finding.detail
    assert f"expected a root file system in {tmp_path / 'cache' / 'arm64'}, found none" in finding.detail
    assert finding.how_to_install == "apt install qemu-user apt dpkg gcc && edgeship setup arm64"
    for tool in ("qemu-aarch64", "apt-get", "dpkg-deb", "gcc"):
        programs(tool)
    (finding,) = doctor_arm64.examine_arm64()
    assert "qemu-aarch64" not in finding.detail
    assert finding.how_to_install == "edgeship setup arm64"


def test_arm64_set_up_without_qemu(programs, tmp_path) -> None:
    set_up_arm64(tmp_path)
    (finding,) = doctor_arm64.examine_arm64()
    assert (finding.works, finding.detail) == (False, "expected the command qemu-aarch64, found none")
    assert finding.how_to_install == "apt install qemu-user"


def test_a_root_file_system_without_python(programs, tmp_path, installed) -> None:
    programs("qemu-aarch64", "echo 'qemu-aarch64 version 9.0 (Debian)'")
    set_up_arm64(tmp_path, python=False)
    whole, *cpus = doctor_arm64.examine_arm64()
    assert [finding.name for finding in cpus] == [f"arm64:{name}" for name in PROCESSORS]
    for finding in cpus:
        assert not finding.works
        assert finding.detail.startswith(f"{tmp_path / 'cache' / 'arm64'}: expected rootfs/usr/bin/python3.N")
        assert finding.how_to_install == "edgeship setup arm64"
    assert not whole.works
    assert whole.detail.startswith("qemu-aarch64 version 9.0; numpy 2.4.6, onnxruntime 1.32.0: ")
    assert whole.detail.endswith("none of the CPU models runs")


QEMU_WITHOUT_PLUGINS = """case "$*" in
    --version) echo "qemu-aarch64 version 9.0 (Debian)";;
    *-plugin*) echo "qemu-aarch64: unknown option 'plugin'" >&2; exit 1;;
    *) echo "Could not open '/lib/ld-linux-aarch64.so.1': No such file or directory" >&2; exit 255;;
esac"""


def test_a_qemu_that_neither_runs_nor_counts(programs, tmp_path, installed) -> None:
    programs("qemu-aarch64", QEMU_WITHOUT_PLUGINS)
    set_up_arm64(tmp_path)
    whole, *cpus = doctor_arm64.examine_arm64()
    assert "the same as here; instructions are not counted: " in whole.detail
    assert "unknown option 'plugin'" in whole.detail
    assert whole.how_to_install is None
    for finding in cpus:
        assert not finding.works
        assert finding.detail.startswith("Could not open '/lib/ld-linux-aarch64.so.1'")


def test_a_counter_that_counts_nothing(programs, tmp_path) -> None:
    programs("qemu-aarch64", "echo marked")
    set_up_arm64(tmp_path)
    assert doctor_arm64._counter().startswith("instructions are not counted: [Errno 2]")
    programs("qemu-aarch64", 'for word; do case "$word" in *,counts=*) echo 7 > "${word##*=}";; esac; done; echo x')
    assert doctor_arm64._counter() == "instructions are not counted: expected two rising counts, found [7]"


def test_other_versions_are_set_up_than_installed(programs, tmp_path, installed) -> None:
    programs("qemu-aarch64", "exit 1")
    set_up_arm64(tmp_path)
    installed["onnxruntime"] = "1.33.0"
    finding = doctor_arm64._root_file_system(VERSIONS_THERE, "instructions are counted", works=True)
    assert finding.works
    assert "not the same as here (onnxruntime 1.33.0), set up again" in finding.detail
    assert finding.how_to_install == "edgeship setup arm64"
    installed["onnxruntime"] = VERSIONS_THERE["onnxruntime"]
    finding = doctor_arm64._root_file_system(VERSIONS_THERE, "instructions are counted", works=True)
    assert "onnxruntime 1.32.0: the same as here; instructions are counted" in finding.detail
    assert finding.how_to_install is None


# The browser -------------------------------------------------------------------------------------------------


@pytest.fixture
def modules(programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node_modules folder that has the modules' package.json files only."""
    folder = tmp_path / "node_modules"
    for name, version in VERSIONS.items():
        (folder / name).mkdir(parents=True)
        write_json(folder / name / "package.json", {"version": version})
    monkeypatch.setenv("EDGESHIP_BROWSER_MODULES", str(folder))
    return folder


def examine_browser() -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor_browser.examine_browser()}


def test_no_browser_and_no_modules(programs) -> None:
    found = examine_browser()
    assert set(found) == {"browser", "litert-web", "onnxruntime-web"}
    assert not any(finding.works for finding in found.values())
    assert found["browser"].detail == "expected one of chromium, chromium-browser, google-chrome on PATH, found none"
    assert found["browser"].how_to_install == "apt install chromium"
    assert found["onnxruntime-web"].detail == (
        "expected the npm module onnxruntime-web, but no node_modules folder is set up"
    )
    assert found["onnxruntime-web"].how_to_install == "apt install npm && edgeship setup browser"


def test_a_browser_without_modules(programs) -> None:
    chromium = programs("chromium", "exit 1")
    programs("npm")
    found = examine_browser()
    assert found["browser"].detail == f"{chromium}; not tried without a web runtime"
    assert (found["browser"].works, found["browser"].how_to_install) == (False, "edgeship setup browser")


def test_modules_without_a_browser(modules) -> None:
    found = examine_browser()
    for name, version in BROWSER_PACKAGES.items():
        finding = found["onnxruntime-web" if name == "onnxruntime-web" else "litert-web"]
        assert finding.detail.startswith(f"{name} {version}")
        assert finding.detail.endswith("; not tried without a browser")
        assert finding.how_to_install == "apt install chromium"


def test_a_browser_that_is_named_and_not_there(modules, programs, monkeypatch) -> None:
    monkeypatch.setenv("EDGESHIP_CHROMIUM", "/nowhere/chrome")
    browser = examine_browser()["browser"]
    assert browser.detail == "EDGESHIP_CHROMIUM: expected a program, found none at /nowhere/chrome"
    assert browser.how_to_install == "unset EDGESHIP_CHROMIUM; apt install chromium"
    programs("chromium")
    assert examine_browser()["browser"].how_to_install == "unset EDGESHIP_CHROMIUM"


def test_a_browser_that_does_not_start(modules, programs) -> None:
    chromium = programs("chromium", "echo 'error while loading libnss3.so' >&2; exit 127")
    found = examine_browser()
    for finding in found.values():
        assert not finding.works
        assert finding.how_to_install is None  # nothing of ours would help
        assert "Chromium ended with exit code 127; its last words: error while loading libnss3.so" in finding.detail
    assert found["browser"].detail.startswith(f"{chromium}: BrowserEnded")


def test_a_module_of_another_version_and_one_that_is_missing(modules, programs) -> None:
    write_json(modules / "onnxruntime-web" / "package.json", {"version": "1.17.0"})
    (modules / "@litertjs/wasm-utils" / "package.json").unlink()
    found = examine_browser()
    expected = f"onnxruntime-web 1.17.0 (edgeship was made for onnxruntime-web {VERSIONS['onnxruntime-web']})"
    assert found["onnxruntime-web"].detail.startswith(expected)
    assert found["litert-web"].detail == f"expected the npm module @litertjs/wasm-utils, but it is not in {modules}"
    assert found["litert-web"].how_to_install == (
        "apt install npm && unset EDGESHIP_BROWSER_MODULES && edgeship setup browser"
    )


def test_the_versions_that_are_set_up_are_those_that_are_expected() -> None:
    assert BROWSER_PACKAGES.items() <= VERSIONS.items()


@pytest.mark.skipif(REAL_CHROMIUM is None, reason="no Chromium")
def test_modules_that_are_empty(modules, monkeypatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("EDGESHIP_CHROMIUM", str(REAL_CHROMIUM))
    found = examine_browser()
    assert found["browser"].works
    assert found["browser"].detail == f"{REAL_CHROMIUM}; its page came up, the runtimes failed in it"
    for name in ("litert-web", "onnxruntime-web"):
        assert not found[name].works
        assert "Failed to fetch dynamically imported module" in found[name].detail
        assert str(found[name].how_to_install).endswith("edgeship setup browser")


# The emulated x86 processors ---------------------------------------------------------------------------------


def test_x86_without_its_emulator(programs, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (missing,) = doctor_x86.examine_x86()
    assert (missing.name, missing.works) == ("x86", False)
    assert missing.detail == "expected the command qemu-x86_64, found none"
    assert missing.how_to_install == "apt install qemu-user"


def test_x86_on_an_arm_machine(programs, monkeypatch) -> None:
    programs("qemu-x86_64")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (missing,) = doctor_x86.examine_x86()
    assert (missing.works, missing.how_to_install) == (False, None)
    assert missing.detail == "expected an x86-64 machine, whose Python and wheels it runs, found aarch64"


def test_x86_with_an_emulator_that_does_not_run(programs, monkeypatch) -> None:
    programs("qemu-x86_64", "echo 'x86 Haswell'; echo 'x86 Nehalem'; echo 'qemu-x86_64: no memory' >&2")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    findings = doctor_x86.examine_x86()
    assert [(found.name, found.works) for found in findings] == [("x86:haswell", False), ("x86:nehalem", False)]
    assert "x86:nehalem: Python did not start there (qemu-x86_64: no memory)" in findings[1].detail
