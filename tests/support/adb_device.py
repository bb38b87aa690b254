"""The other end of adb for tests: a real `adbd`, from Debian, in a network namespace of its own.

    python adb_device.py fetch       bring it into the cache folder; print where it is, or exit 3 with the reason
    run_inside(...)                  run a Python script in a new network namespace
    Device(...)                      in that namespace: adbd, and an adb server of our own

adbd listens on all interfaces and asks nobody who they are, so it refuses to run outside a namespace of its own
(here: where there is any interface but the loopback). It is a glibc Linux, not Android: no getprop, no dumpsys.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from edgeship.core.cache_folder import cache_folder

SUITE = "backports"  # Debian 12 itself has no adbd
PACKAGES = ("adbd", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog", "libprotobuf32")
# For machines that lack them: a library adbd needs -> its package.
LIBRARIES = {
    "libbrotli": "libbrotli1", "liblz4": "liblz4-1", "libzstd": "libzstd1", "libsystemd": "libsystemd0",
}
# Of arm64, everything adbd, a shell and the runner need: nothing of this machine's is of use there.
ARM64_PACKAGES = ("adbd", "coreutils", "dash", "python3", "libstdc++6")
ARM64_CPU = "cortex-a76"
ADBD = "usr/lib/android-sdk/platform-tools/adbd"
SERIAL = "127.0.0.1:5555"
OTHER_SERIAL = "localhost:5555"  # the same device to another name
NOT_AVAILABLE = 3
COMMAND_SECONDS = 300
START_SECONDS = 300


class NotAvailable(Exception):
    """This machine cannot run the device; the message says why."""


def fetch() -> Path:
    """The folder with adbd and its libraries, fetched once. Raises NotAvailable."""
    root = cache_folder() / "adbd"
    if not (root / ADBD).is_file():
        for tool in ("apt-get", "dpkg-deb", "ldd"):
            if shutil.which(tool) is None:
                raise NotAvailable(f"adbd is fetched from Debian, and {tool} is not here")
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adbd-", dir=root.parent) as name:
            work = Path(name)
            _unpack(work, PACKAGES)
            missing = _missing_libraries(work / "root")
            unknown = [library for library in missing if _package_of(library) is None]
            if unknown:
                raise NotAvailable(f"adbd needs {', '.join(unknown)}")
            if missing:
                _unpack(work, sorted({str(_package_of(library)) for library in missing}))
            with contextlib.suppress(OSError):  # another test run was faster
                (work / "root").rename(root)
    return root


def fetch_arm64() -> Path:
    """The same for arm64, with Debian's Python. Raises NotAvailable."""
    for tool in ("apt-get", "dpkg-deb", "proot", "qemu-aarch64"):
        if shutil.which(tool) is None:
            raise NotAvailable(f"an arm64 adbd needs {tool}")
    if not (cache_folder() / "arm64" / "complete.json").is_file():
        raise NotAvailable("an arm64 adbd needs the arm64 wheels; run `edgeship setup arm64`")
    root = cache_folder() / "adbd-arm64"
    if not (root / ADBD).is_file():
        with tempfile.TemporaryDirectory(prefix=".adbd-", dir=root.parent) as name:
            work = Path(name)
            _unpack(work, ARM64_PACKAGES, architecture="arm64")
            shell = work / "root" / "bin" / "sh"
            if not shell.exists():
                shell.symlink_to("dash")
            with contextlib.suppress(OSError):  # another test run was faster
                (work / "root").rename(root)
    return root


def run_inside(script: Path, arguments: Sequence[str], *, timeout_seconds: float) -> None:
    """Run our Python on a script in a network and mount namespace of its own. Raises NotAvailable."""
    as_root = os.geteuid() == 0
    done = subprocess.run(
        ["unshare", "-nm" if as_root else "-rnm", sys.executable, str(script), *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_seconds,
        check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if "unshare failed" in done.stderr:
        raise NotAvailable(done.stderr.strip())
    if done.returncode:
        raise AssertionError(f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


class Device:
    """adbd and a private adb server, connected. Use it in `with`, inside the namespace.

    Args:
        root: what `fetch` or `fetch_arm64` gave.
        folder: home, temporary files and logs of both.
        shared: for an arm64 device, the folder that is the same on both sides; /wheels has its packages.
    """

    def __init__(self, root: Path, folder: Path, *, shared: Path | None = None) -> None:
        self._root, self._folder, self._shared = root, folder, shared
        self._adbd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Device:
        others = [name for _, name in socket.if_nameindex() if name != "lo"]
        if others:
            raise AssertionError(f"expected a network namespace of our own, found interfaces {others}")
        ip = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if ip is None:
            raise AssertionError("expected the command ip (package iproute2), found none")
        subprocess.run([ip, "link", "set", "lo", "up"], check=True, timeout=COMMAND_SECONDS)
        self._folder.mkdir(parents=True, exist_ok=True)
        # The log of another user's server in /tmp would stop ours.
        os.environ.update(
            HOME=str(self._folder), TMPDIR=str(self._folder), ANDROID_ADB_SERVER_PORT="5137", ADB_MDNS="0"
        )
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        subprocess.run(["adb", "kill-server"], capture_output=True, check=False, timeout=COMMAND_SECONDS)

    def start(self) -> None:
        """Start adbd and connect the server to it."""
        with (self._folder / "adbd.log").open("ab") as log:
            self._adbd = subprocess.Popen(
                [str(self._root / ADBD)] if self._shared is None else self._emulated(self._shared),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={**os.environ, "LD_LIBRARY_PATH": _library_path(self._root) if self._shared is None else ""},
            )
        end_s = time.monotonic() + START_SECONDS
        state = ""
        while state != "device":
            if time.monotonic() > end_s:
                raise AssertionError(f"adbd did not come up: {(self._folder / 'adbd.log').read_text()[-500:]}")
            adb("connect", SERIAL)
            state = adb("-s", SERIAL, "get-state")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill adbd, as a cable that is taken out."""
        if self._adbd is not None:
            kill(ADBD, str(self._root) if self._shared is None else ARM64_CPU)
            self._adbd.wait(START_SECONDS)
            self._adbd = None

    def _emulated(self, shared: Path) -> list[str]:
        arm64 = self._root.parent / "arm64"
        # Kernels are chosen by /proc/cpuinfo, which must not be this machine's.
        shown = {
            "/proc": "/proc", "/dev": "/dev", str(arm64 / "cpus" / ARM64_CPU / "proc" / "cpuinfo"): "/proc/cpuinfo",
            str(arm64 / "wheels"): "/wheels", str(shared): str(shared),
        }
        binds = [word for here, there in shown.items() for word in ("-b", f"{here}:{there}")]
        return [
            "proot", "-q", f"qemu-aarch64 -cpu {ARM64_CPU}", "-r", str(self._root), *binds, "-w", "/", f"/{ADBD}",
        ]


def adb(*words: str) -> str:
    """What an adb command prints."""
    done = subprocess.run(
        ["adb", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    )
    return done.stdout.strip()


def processes(*words: str) -> list[int]:
    """The ids of the processes whose command lines have all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in command for word in words):
                found.append(int(path.parent.name))
    return found


def kill(*words: str, number: int = signal.SIGKILL) -> int:
    """Send a signal to those processes; how many there were."""
    found = processes(*words)
    for process in found:
        with contextlib.suppress(ProcessLookupError):  # it ended with the one before it
            os.kill(process, number)
    return len(found)


def _unpack(work: Path, packages: Sequence[str], *, architecture: str | None = None) -> None:
    """Fetch packages by an apt state of our own, from where this machine's apt gets Debian.

    With an `architecture` also all that they need.
    """
    uri, codename = _debian_source()
    for folder in ("state/lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    sources = work / "sources.list"
    sources.write_text(f"deb {uri} {codename} main\ndeb {uri} {codename}-{SUITE} main\n")
    options = [
        "-o", f"Dir::State={work}/state", "-o", "Dir::State::status=/dev/null", "-o", f"Dir::Cache={work}/cache",
        "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=",
        "-o", "Acquire::Languages=none",
    ]
    suite = ["-t", f"{codename}-{SUITE}"]
    if architecture is None:
        _run(["apt-get", *options, "-qq", "update"], work)
        _run(["apt-get", *options, "-qq", "download", *suite, *packages], work / "debs")
    else:
        options += ["-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}",
                    "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=1"]
        _run(["apt-get", *options, "-qq", "update"], work)
        _run(["apt-get", *options, "-qq", "-y", "--download-only", "install", *suite, *packages], work)
    for package in sorted([*(work / "debs").glob("*.deb"), *(work / "cache" / "archives").glob("*.deb")]):
        _run(["dpkg-deb", "-x", str(package), str(work / "root")], work)


def _debian_source() -> tuple[str, str]:
    """(URI, codename) of this machine's own Debian, such as ("https://mirror/debian/", "bookworm")."""
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    listing = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], Path.cwd())
    for line in listing.splitlines():
        match = re.fullmatch(r"Debian main ([a-z]+) (\S+)", line)
        if match:
            return match.group(2), match.group(1)
    raise NotAvailable("adbd is fetched from Debian, and this machine's apt has no Debian in its sources")


def _library_path(root: Path) -> str:
    folders = [str(path) for path in (root / "usr" / "lib").glob("*-linux-gnu*")]
    return ":".join([*(f"{folder}/android" for folder in folders), *folders])


def _missing_libraries(root: Path) -> list[str]:
    done = subprocess.run(
        ["ldd", str(root / ADBD)], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
        env={**os.environ, "LD_LIBRARY_PATH": _library_path(root)},
    )
    return re.findall(r"^\s*(\S+) => not found", done.stdout, flags=re.MULTILINE)


def _package_of(library: str) -> str | None:
    return next((package for prefix, package in LIBRARIES.items() if library.startswith(prefix)), None)


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=COMMAND_SECONDS, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailable(f"adbd could not be fetched: {error}") from error
    if done.returncode:
        raise NotAvailable(f"adbd could not be fetched: {' | '.join((done.stderr + done.stdout).splitlines()[-3:])}")
    return done.stdout


def main() -> int:
    """Fetch."""
    try:
        sys.stdout.write(f"{fetch()}\n")
    except NotAvailable as error:
        sys.stderr.write(f"{error}\n")
        return NOT_AVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
