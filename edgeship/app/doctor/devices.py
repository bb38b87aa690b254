"""What `edgeship doctor` says of ssh and adb, and of the runtimes whose programs are for phones.

Which boards and phones there are is said on the command line, so none is reached for here.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Sequence

from edgeship.app.doctor.findings import Finding
from edgeship.app.doctor.trials import output_of
from edgeship.core.errors import TargetFailure
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.adb_state import ADVICE, Attached, parse_devices

SERVER_SECONDS = 2.0
ADB_PORT = 5037
# Client -> the package of Debian and Ubuntu.
PACKAGES = {"ssh": "openssh-client", "adb": "adb"}


def examine_ssh() -> list[Finding]:
    """The ssh client."""
    lines, missing = _client("ssh", "-V")
    if missing is not None:
        return [missing]
    version = lines[0].split(",")[0]
    detail = f"{version}; boards are named on the command line (--on ssh://pi@board) and not tried here"
    return [Finding(name="ssh", kind="target", works=True, detail=detail)]


def examine_adb() -> list[Finding]:
    """The adb client, and the devices where a server runs anyway: `adb devices` itself would start one."""
    lines, missing = _client("adb", "version")
    if missing is not None:
        return [missing]
    version = next((line for line in lines if line.startswith("Version ")), lines[0]).removeprefix("Version ")
    return [Finding(name="adb", kind="target", works=True, detail=f"adb {version}; {_devices()}")]


def tools_for_phones() -> list[Finding]:
    """The runtimes whose programs the user has for the phone."""
    return [
        Finding(
            name=name, kind="runtime", works=None,
            detail=f"a program for the phone, not on this machine to be found; name it with `edgeship validate BUNDLE "
            f"--on adb {runtime.option} FILE`",
        )
        for name, runtime in RUNTIMES.items() if runtime.option is not None
    ]


def _client(name: str, question: str) -> tuple[list[str], Finding | None]:
    """What the program says of its version, or the finding that it is missing or broken."""
    package = PACKAGES[name]
    if shutil.which(name) is None:
        detail, install = f"expected the command {name}, found none", f"apt install {package}"
    else:
        try:
            return output_of([name, question]), None
        except TargetFailure as error:
            detail, install = str(error), f"apt install --reinstall {package}"
    return [], Finding(name=name, kind="target", works=False, detail=detail, how_to_install=install)


def _devices() -> str:
    """How many devices the adb server has, and what is to be done for those that are not ready."""
    if "ADB_SERVER_SOCKET" in os.environ:
        return "devices not listed: ADB_SERVER_SOCKET names a server elsewhere; `adb devices -l` lists them"
    try:
        port = int(os.environ.get("ANDROID_ADB_SERVER_PORT", ADB_PORT))
        return f"devices: {_count(parse_devices(_ask_server(port)))}"
    except ConnectionRefusedError:
        return "devices not listed: no adb server runs, and doctor starts none; `adb devices -l` does"
    except (OSError, ValueError, OverflowError) as error:
        return f"devices not listed: the adb server's answer is not understood ({error})"


def _ask_server(port: int) -> str:
    """What `adb devices -l` would print, from the server itself: a client of another version would restart it.

    The server's protocol (adb's own overview of it, checked with server 29.0.6): a request is preceded by its length in
    four hexadecimal digits, so is the answer, and "OKAY" stands before that.
    """
    request = b"host:devices-l"
    with socket.create_connection(("127.0.0.1", port), SERVER_SECONDS) as server, server.makefile("rb") as answer:
        server.sendall(b"%04x%s" % (len(request), request))
        status = answer.read(4)
        if status != b"OKAY":
            raise ValueError(f"expected OKAY, found {status!r}")
        length = int(answer.read(4), 16)  # 65,535 at most
        return "List of devices attached\n" + answer.read(length).decode(errors="replace")


def _count(devices: Sequence[Attached]) -> str:
    """"1 ready, 1 unauthorized (what to do)"."""
    counts = Counter(device.state for device in devices)
    ready = counts.pop("device", 0)
    others = [
        f"{count} {state}" + (f" ({ADVICE[state]})" if state in ADVICE else "") for state, count in counts.items()
    ]
    return ", ".join([f"{ready} ready", *others])
