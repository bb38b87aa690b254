"""Fork servers for worker processes of float Keras: TensorFlow is imported once, and not anew in each of hundreds.

A fork of a process that has imported TensorFlow and computed nothing is what a fresh process is after its imports. A
worker is still a process of its own, with its own session, and a real one stands for it: the client
(tests/support/warm_client.py) passes its pipes to the server, ends as the fork ends, and its death is the fork's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from edgeship.core.child import child_environment
from edgeship.validate.subject.rows import KERAS
from edgeship.validate.targets.target import Target

ROOT = Path(__file__).parents[2]
REAL_COMMAND = Target.command
SERVER, CLIENT = (Path(__file__).with_name(name) for name in ("warm_server.py", "warm_client.py"))
# What TensorFlow and Python read when they start: a server that started with other values is not asked.
READ_AT_START = ("TF_", "CUDA_", "XLA_", "KERAS_", "PYTHONHASHSEED", "LD_")
# But these, which say what TensorFlow prints: tf2onnx changes one of them.
ABOUT_THE_LOG = "TF_CPP_"


class WarmWorkers:
    """A server, started when the first worker is asked for. Use it in `with`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the server's socket is made; its path must be short."""
        self._socket = folder / "warm"
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = _read_at_start()

    def __enter__(self) -> WarmWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()  # ends the server, and its forks with it
            self._server.wait(60)

    def command(self, target: Target, runtime: str) -> Sequence[str]:
        """Return the command that starts a runtime's worker on this machine, in place of `Target.command`.

        The real one for other runtimes, and where the environment is not the one that the server started with.
        """
        if runtime != KERAS or _read_at_start() != self._environment:
            return REAL_COMMAND(target, runtime)
        if self._server is None:
            self._server = self._start()
        return client_command(self._socket)

    def first_line(self) -> str:
        """Return the line of Python with which another program asks the same server."""
        self.command(Target(), KERAS)
        return (
            f"import sys; sys.path.append({str(ROOT)!r}); "
            f"from tests.support.warm_workers import ask; ask({str(self._socket)!r})\n"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(self._socket)], start_new_session=True,
            # No thread may be alive when a process forks, and NumPy's library would start some.
            env=child_environment(OPENBLAS_NUM_THREADS="1", PYTHONIOENCODING="utf-8"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        if server.stdout.readline() != b"ready\n":  # its traceback is on standard error
            raise RuntimeError(f"the server of warm workers ended with exit code {server.wait()}")
        return server


def client_command(path: Path) -> Sequence[str]:
    """Return the command of a client of the server at a socket."""
    return sys.executable, "-I", "-S", str(CLIENT), str(path)


def ask(path: str) -> None:
    """Let the server at a socket fork this program's workers of float Keras."""
    def command(target: Target, runtime: str) -> Sequence[str]:
        return client_command(Path(path)) if runtime == KERAS else REAL_COMMAND(target, runtime)

    Target.command = command  # type: ignore[method-assign]


def _read_at_start() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items()
        if name.startswith(READ_AT_START) and not name.startswith(ABOUT_THE_LOG)
    }
