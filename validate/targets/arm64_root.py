"""The arm64 root file system in a folder: Debian's Python, the aarch64 wheels, one view of it for each CPU model.

    rootfs/          Python and what it needs, unpacked from Debian packages (53 MB)
    wheels/          numpy, ai-edge-litert and onnxruntime for aarch64 (155 MB)
    cpus/NAME/       links into rootfs/, and the /proc/cpuinfo of that CPU model
    libcount.so      the instruction counter
    complete.json    written last: the versions, so that half a set-up is never used

Nothing outside the folder is written, nothing needs root rights, and running it needs only `qemu-aarch64`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edgeship.core.cache_folder import cache_folder
from edgeship.core.errors import RefusedError
from edgeship.core.files import write_atomically, write_json
from edgeship.core.progress import say
from edgeship.validate.runner.table import PINNED_PACKAGES
from edgeship.validate.targets.arm64_processors import PROCESSORS
from edgeship.validate.targets.emulator import build_counter

FOLDER = "arm64"
COMPLETE = "complete.json"
PACKAGES = ("python3", "libstdc++6")  # Debian's; apt finds what they need
WHEELS = ("numpy", *PINNED_PACKAGES)
# The newest first; a wheel of any of them runs on Debian 12 and later.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
TOOLS = {
    "qemu-aarch64": "qemu-user", "apt-get": "apt", "dpkg-deb": "dpkg", "gcc": "gcc",
}
COMMAND_SECONDS = 900


def root_folder() -> Path:
    """Where it is, or would be."""
    return cache_folder() / FOLDER


def installed_versions() -> dict[str, str] | None:
    """Package -> version of what is set up; None where the set-up is missing, not finished, or of another layout."""
    try:
        document = json.loads((root_folder() / COMPLETE).read_text(encoding="utf-8"))
        return {str(name): str(version) for name, version in document["versions"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def guest_python(root: Path) -> Path:
    """The Python in the root file system. Raises RefusedError where there is none."""
    found = sorted((root / "rootfs" / "usr" / "bin").glob("python3.[0-9]*"))
    if not found:
        raise RefusedError(f"{root}: expected rootfs/usr/bin/python3.N, found none; run `edgeship setup arm64` again")
    return found[-1]


def set_up() -> Path:
    """Make the folder anew; the old one is replaced when the new one is complete.

    Raises:
        RefusedError: a tool is missing, or a download failed.
    """
    _require_tools()
    target = root_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=target.parent))
    work.chmod(0o755)
    try:
        _unpack_packages(work)
        versions = _unpack_wheels(work)
        _views(work)
        build_counter(work)
        write_json(work / COMPLETE, {"versions": versions})
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _require_tools() -> None:
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise RefusedError(
            f"arm64: missing here: {', '.join(missing)}; on Debian or Ubuntu: apt install {' '.join(missing)} "
            "(other systems have no apt to fetch the root file system with)"
        )


def _unpack_packages(work: Path) -> None:
    """Debian packages for arm64 by an apt state of its own: the machine's is neither read nor changed."""
    state = work / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    status = state / "status"
    status.touch()  # nothing is installed, so all that Python needs is fetched
    options = [
        "-o", f"Dir::State={state}/state", "-o", f"Dir::Cache={state}/cache", "-o", f"Dir::State::status={status}",
        "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "Debug::NoLocking=1",
        "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "APT::Install-Recommends=false",
    ]
    say("arm64: reading the package lists")
    _run(["apt-get", *options, "-qq", "update"])
    say(f"arm64: fetching {', '.join(PACKAGES)} and what they need")
    _run(["apt-get", *options, "-qq", "-y", "--download-only", "install", *PACKAGES])
    rootfs = work / "rootfs"
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(rootfs)])
    shutil.rmtree(state)


def _unpack_wheels(work: Path) -> dict[str, str]:
    """The wheels of the versions that are installed here, so that both sides run the same release."""
    version = guest_python(work).name.removeprefix("python")
    wanted = [f"{name}=={_version_here(name)}" for name in WHEELS]
    say(f"arm64: fetching {', '.join(wanted)} for Python {version}")
    downloads = work / "downloads"
    _run([
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(downloads), "--python-version", version, "--implementation", "cp",
        *(part for name in PLATFORMS for part in ("--platform", name)), *wanted,
    ])
    for wheel in sorted(downloads.glob("*.whl")):
        shutil.unpack_archive(wheel, work / "wheels", format="zip")
    shutil.rmtree(downloads)
    return dict(requirement.split("==") for requirement in wanted)


def _version_here(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise RefusedError(f"arm64: expected {name} installed here too, to compare with; pip install {name}") from error


def _views(work: Path) -> None:
    """One folder for `qemu -L` per CPU model: QEMU opens cpus/NAME/proc/cpuinfo where the guest asks for it."""
    for name, processor in PROCESSORS.items():
        view = work / "cpus" / name
        (view / "proc").mkdir(parents=True)
        for entry in (work / "rootfs").iterdir():
            if entry.name != "proc":
                (view / entry.name).symlink_to(Path("../../rootfs") / entry.name)
        write_atomically(view / "proc" / "cpuinfo", processor.cpuinfo.encode())


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=COMMAND_SECONDS, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"arm64: {command[0]} failed: {error}") from error
    if done.returncode:
        words = [line for line in (done.stderr + done.stdout).splitlines() if re.search(r"\S", line)]
        raise RefusedError(f"arm64: {' '.join(command[:3])} ... failed: {' | '.join(words[-3:])}")
