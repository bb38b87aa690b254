"""A board with Python behind the user's own `ssh`: its configuration, agent, jump hosts and host keys.

Nothing of ssh is replaced or switched off. One connection is made and shared by all commands (ControlMaster), since
connecting takes half a second. Files go through `cat`, which every system has, so no sftp server is needed.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeship.core.errors import ConfigError
from edgeship.core.files import sha256_of_file
from edgeship.validate.runner.pack import FILE, packed_runner
from edgeship.validate.runner.table import DEVICE_RUNTIMES
from edgeship.validate.targets.keeper import Keeper, KeeperEnded
from edgeship.validate.targets.target import DEVICE, NO_SPACE, Target, TargetFailure, quoted

CONNECT_SECONDS = 15
ANSWER_SECONDS = 60.0  # for a board's slow start of Python with numpy
TRANSFER_SECONDS = 600.0
SSH_FAILED = 255  # ssh's own exit code; everything else is the command's
# What ssh says -> what to do about it. The first that is found is told.
ADVICE = (
    ("Host key verification failed", "its host key is not the one known (or not known yet): connect once with ssh "
     "by hand and compare the fingerprint; the check is never switched off here"),
    ("Permission denied", "log in once with ssh by hand; use a key or an agent, since no password can be typed here"),
    ("Could not resolve hostname", "check the name"),
    ("Connection refused", "is sshd running there, on this port?"),
    ("timed out", "is it switched on, and in this network?"),
    ("No route to host", "is it switched on, and in this network?"),
)


class SshTarget(Target):
    """`ssh://user@host[:port]`, or any name of the user's ssh configuration as host.

    Args:
        name: the URL.
        ssh: the ssh command and options of the user's choice, for example ["ssh", "-F", "file"].
        python: the Python there that has numpy and the runtimes' packages.
        folder: where our folder is made there; None: the system's place for temporary files.
    """

    kind = DEVICE
    runtimes = DEVICE_RUNTIMES

    def __init__(
        self, name: str, *, ssh: Sequence[str] = ("ssh",), python: str = "python3", folder: str | None = None
    ) -> None:
        super().__init__(name)
        self._host, self._port = parse_url(name)
        self._ssh, self._python, self._parent = list(ssh), python, folder or ""
        self._sent: dict[tuple[Path, int, int], str] = {}
        self._sockets: str | None = None
        self._keeper: Keeper | None = None
        self._folder = ""
        self._about: dict[str, Any] = {}

    @property
    def processes(self) -> int:
        """One: the board's cores are the runtime's."""
        return 1

    def __enter__(self) -> SshTarget:
        if shutil.which(self._ssh[0]) is None:
            raise TargetFailure(
                f"{self.name}: expected the command {self._ssh[0]!r}, found none; install openssh-client"
            )
        # Unix sockets have short names, and %C keeps connections to different ports apart.
        self._sockets = tempfile.mkdtemp(prefix="es-")
        try:
            self._start_keeper()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """The folder there goes, then the connection."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self._sockets is not None:
            subprocess.run(
                [*self._options(), "-O", "exit", self._host], capture_output=True, timeout=CONNECT_SECONDS, check=False
            )
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def command(self, runtime: str) -> list[str]:
        """The runner under its supervisor."""
        return self._remote(f"exec {self._python} {shlex.quote(f'{self._folder}/{FILE}')} supervise")

    def put(self, local: Path) -> str:
        """Copy a file into our folder there; once, as long as it is unchanged here."""
        status = local.stat()
        key = local, status.st_size, status.st_mtime_ns
        if key not in self._sent:
            there = f"{self._folder}/{len(self._sent)}-{local.name}"
            self._send(local, there)
            self._sent[key] = there
        return self._sent[key]

    def new_path(self, name: str) -> str:
        """A path in our folder there."""
        return f"{self._folder}/{name}"

    def get(self, there: str, local: Path) -> None:
        """Copy a file from there."""
        with local.open("wb") as stream:
            self._checked(f"cat {shlex.quote(there)}", stdout=stream)

    def remove(self, there: str) -> None:
        """Remove a file there."""
        self._checked(f"rm -f {shlex.quote(there)}")
        self._sent = {key: path for key, path in self._sent.items() if path != there}

    def explain(self, *, exit_code: int | None, last_words: Sequence[str]) -> TargetFailure | None:
        """ssh's own failure: the link, not the command behind it.

        A connection that was made just after a cut reaches a board on which our folder is gone: its command fails
        by itself, with any exit code. So the keeper is asked, which lives as long as the folder.
        """
        if exit_code == SSH_FAILED or (exit_code is not None and exit_code < 0):
            return self._cut(last_words)
        if self._keeper is not None and (ended := self._keeper.ended()) is not None:
            return self._cut((*last_words, *ended.last_words))
        return None

    def missing(self, package: str) -> TargetFailure:
        """What to install on the board."""
        return TargetFailure(
            f"{self.name}: {package} is not installed there for {self._python}; on the board: "
            f"{self._python} -m pip install {package}"
        )

    def describe(self) -> dict[str, Any]:
        """What the keeper said of the board."""
        return {key: value for key, value in self._about.items() if key != "state"}

    def state(self) -> dict[str, Any] | None:
        """Temperature, clock and throttling now."""
        if self._keeper is None:
            return None
        try:
            return self._keeper.state()
        except KeeperEnded as error:
            raise self._cut(error.last_words) from error

    def _cut(self, last_words: Sequence[str]) -> TargetFailure:
        return TargetFailure(f"{self.name}: the link was cut{quoted(last_words)}")

    def _start_keeper(self) -> None:
        """The runner is sent before there is a folder of ours: it makes the folder, and then moves into it."""
        runner = self._bootstrap()
        try:
            self._keeper = Keeper(
                self._remote(f"exec {self._python} {runner} keep {shlex.quote(self._parent)}"),
                timeout_seconds=ANSWER_SECONDS,
            )
            try:
                self._about = self._keeper.answer()
            except KeeperEnded as error:
                raise self._not_started(error) from error
            self._folder = self._about.pop("folder")
            self._checked(f"mv {runner} {shlex.quote(self._folder)}/{FILE}")
        except BaseException:
            with contextlib.suppress(TargetFailure):
                self._run(f"rm -f {runner}")
            raise

    def _bootstrap(self) -> str:
        """Send the runner to a file of its own; its path there, safe for a shell."""
        # `umask 077`: nobody else reads or changes what will be run. cat removes nothing that exists: mktemp is new.
        parent = shlex.quote(self._parent) if self._parent else '"${TMPDIR:-/tmp}"'
        script = (
            f'umask 077; f=$(mktemp {parent}/edgeship-XXXXXXXX) && cat > "$f" && printf "%s" "$f" '
            '|| { rm -f "$f"; exit 1; }'
        )
        with packed_runner().open("rb") as stream:
            found = self._checked(script, stdin=stream).decode(errors="replace").strip()
        return shlex.quote(found)

    def _send(self, local: Path, there: str) -> None:
        quoted = shlex.quote(there)
        try:
            with local.open("rb") as stream:
                self._checked(f"cat > {quoted}", stdin=stream)
            found = self._checked(f"wc -c < {quoted}").strip()
        except TargetFailure:
            self._run(f"rm -f {quoted}")
            raise
        if int(found or 0) != local.stat().st_size:
            raise TargetFailure(
                f"{self.name}: {local.name}: expected {local.stat().st_size:,} bytes to arrive (SHA-256 "
                f"{sha256_of_file(local)}), found {found.decode()}; check the link and the storage there"
            )

    def _checked(self, script: str, **pipes: Any) -> bytes:
        """Run a shell script there; its output. Raises TargetFailure where it fails."""
        done = self._run(script, **pipes)
        if done.returncode == 0:
            return done.stdout or b""
        words = tuple(line for line in done.stderr.decode(errors="replace").splitlines() if line.strip())
        if done.returncode == SSH_FAILED:
            text = " ".join(words)
            advice = next((advice for sign, advice in ADVICE if sign in text), "try the same with ssh by hand")
            raise TargetFailure(f"{self.name}: could not be reached{quoted(words)}; {advice}")
        if any(sign in line for sign in NO_SPACE for line in words):
            raise TargetFailure(
                f"{self.name}: no space left there{quoted(words)}; free some, or choose another folder with "
                "validate.device_folder"
            )
        raise TargetFailure(f"{self.name}: a command failed there with exit code {done.returncode}{quoted(words)}")

    def _run(self, script: str, **pipes: Any) -> subprocess.CompletedProcess[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **pipes}
        try:
            return subprocess.run(
                self._remote(script), stderr=subprocess.PIPE, timeout=TRANSFER_SECONDS, check=False, **pipes
            )
        except subprocess.TimeoutExpired as error:
            raise TargetFailure(f"{self.name}: no answer for {TRANSFER_SECONDS:g} s; check the link") from error

    def _options(self) -> list[str]:
        return [
            *self._ssh, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}",
            "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
            "-o", "ControlMaster=auto", "-o", f"ControlPath={self._sockets}/%C", "-o", "ControlPersist=60",
            *(["-p", str(self._port)] if self._port else []),
        ]

    def _remote(self, script: str) -> list[str]:
        """The script is one argument of ssh, read by the login shell there: the parts of it are quoted."""
        return [*self._options(), self._host, f"sh -c {shlex.quote(script)}"]

    def _not_started(self, error: KeeperEnded) -> TargetFailure:
        text = " ".join(error.last_words)
        if "No module named" in text:
            module = text.rpartition("No module named")[2].strip(" '\"")
            return self.missing(module)
        if error.exit_code == 127 or "not found" in text:
            return TargetFailure(
                f"{self.name}: expected {self._python!r} there, found no such command; install Python 3.9 or newer, "
                "or name it with validate.device_python"
            )
        return TargetFailure(
            f"{self.name}: the runner did not start there{quoted(error.last_words)}; try "
            f"{self._python} -c 'import numpy' there"
        )


def parse_url(url: str) -> tuple[str, int | None]:
    """"ssh://pi@board:2222" -> ("pi@board", 2222). Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"target {url!r}: expected ssh://user@host[:port], found {error}") from error
    user = parts.username
    # A name that starts with "-" would be an option of ssh.
    strange = not host or host.startswith("-") or (user or "").startswith("-") or parts.path not in ("", "/")
    if parts.scheme != "ssh" or strange or parts.password is not None:
        raise ConfigError(
            f"target {url!r}: expected ssh://user@host[:port] without a password and a path; use a key or an agent"
        )
    return (f"{user}@{host}" if user else str(host)), port
