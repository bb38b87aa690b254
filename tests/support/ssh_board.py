"""A real sshd on the loopback address, with keys, host key and configuration of its own in a folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
START_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Board:
    """`url` is the target's name; `ssh_command` uses the folder's configuration and nothing of the user's."""

    url: str
    ssh_command: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def cut(self) -> None:
        """End every connection the hard way: what serves them, not the listener, and not what runs on the board."""
        kill(pid for pid in children(self.process.pid) if command_line(pid).startswith("sshd:"))


def missing_part() -> str | None:
    """Why there can be no board here; None where there can."""
    if not Path(SSHD).exists():
        return "sshd is not installed (apt install openssh-server)"
    if shutil.which("ssh") is None:
        return "ssh is not installed (apt install openssh-client)"
    return None


@contextlib.contextmanager
def running_board(folder: Path) -> Iterator[Board]:
    """Start it; it is ended with everything that it started."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    port = _free_port()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "sshd_config").write_text("\n".join([
        "ListenAddress 127.0.0.1", f"Port {port}", f"HostKey {folder}/host_key", f"PidFile {folder}/sshd.pid",
        f"AuthorizedKeysFile {folder}/authorized_keys", "PasswordAuthentication no", "UsePAM no", "StrictModes no",
        "PermitRootLogin prohibit-password", "Subsystem sftp internal-sftp", "MaxSessions 20", "",
    ]))
    (folder / "config").write_text("\n".join([
        "Host *", f"    IdentityFile {folder}/user_key", "    IdentitiesOnly yes",
        f"    UserKnownHostsFile {folder}/known_hosts", "    GlobalKnownHostsFile /dev/null",
        "    StrictHostKeyChecking yes", "",
    ]))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it for its unprivileged child
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=(folder / "sshd.log").open("wb"), start_new_session=True,
    )
    board = Board(
        url=f"ssh://{getpass.getuser()}@127.0.0.1:{port}", ssh_command=f"ssh -F {folder}/config", folder=folder,
        port=port, process=process,
    )
    try:
        _wait_for(port, process, folder)
        yield board
    finally:
        kill(children(process.pid))
        process.terminate()
        process.wait(START_SECONDS)


def kill(pids: Iterable[int]) -> None:
    """Kill them the hard way; who is gone already is gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> str:
    """What the process was started with; "" where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        own = [child for child, of in pairs if of == parent]
        found += own
        waiting += own
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended: {(folder / 'sshd.log').read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("sshd did not start")
