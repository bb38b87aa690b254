"""Fork servers for the workers on this machine: what they import is imported once, and not anew in each of thousands.

So are other children: those that copy the numbers of a model's file, and those that try an exported file.

A fork of a process that has imported TensorFlow and computed nothing is what a fresh process is after its imports. A
worker is still a process of its own, with its own session, and a real one stands for it: the client
(tests/support/warm_client.py) passes its pipes to the server, ends as the fork ends, and its death is the fork's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from edgeship.core import child
from edgeship.core.child import child_environment
from edgeship.validate.targets.target import Target

ROOT = Path(__file__).parents[2]
REAL_COMMAND, REAL_SCRIPT, REAL_MODULE = Target.command, child.script_command, child.module_command
SERVER, CLIENT = (Path(__file__).with_name(name) for name in ("warm_server.py", "warm_client.py"))
# What TensorFlow and Python read when they start: a server that started with other values is not asked.
READ_AT_START = ("TF_", "CUDA_", "XLA_", "KERAS_", "PYTHONHASHSEED", "LD_")
# But these, which say what TensorFlow prints: tf2onnx changes one of them.
ABOUT_THE_LOG = "TF_CPP_"

# Which modules a server imports before it forks. ONNX Runtime is none of them: it starts a thread, which no fork has.
MODULES = {
    "hdf5": ("h5py",), "plain": ("edgeship.validate.runner.litert", "onnx"),
    "keras": ("edgeship.validate.probes.reference",),
}
SERVERS = {
    "keras": "keras", "litert": "plain", "litert-reference": "plain", "onnxruntime": "plain",
    "onnxruntime-unoptimized": "plain", "": "plain",
}
# Which server forks what is no worker: scripts and modules with arguments of their own.
CHILDREN = {
    str(ROOT / "edgeship" / "model" / "hdf5_copy.py"): "hdf5",
    str(ROOT / "edgeship" / "model" / "checkpoint_copy.py"): "keras",
    "edgeship.export.proof.child": "plain",
}


class WarmWorkers:
    """The servers, each started when its first worker is asked for. Use it in `with`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the servers' sockets are made; its path must be short."""
        self._folder = folder
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = _read_at_start()

    def __enter__(self) -> WarmWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            assert server.stdin is not None
            server.stdin.close()  # ends the server, and its forks with it
            server.wait(60)

    def command(self, target: Target, runtime: str) -> Sequence[str]:
        """Return the command that starts a runtime's worker on this machine, in place of `Target.command`.

        The real one for other runtimes, and where the environment is not the one that the servers start with.
        """
        if runtime not in SERVERS or _read_at_start() != self._environment:
            return REAL_COMMAND(target, runtime)
        return client_command(self._socket(SERVERS[runtime]))

    def child_command(self, name: str, *arguments: str) -> list[str] | None:
        """Return the command that starts a script or a module, in place of those of `edgeship.core.child`.

        None for those that no server forks, and where the environment is not the one that the servers start with.
        """
        if name not in CHILDREN or _read_at_start() != self._environment:
            return None
        return [*client_command(self._socket(CHILDREN[name])), name, *arguments]

    def first_line(self) -> str:
        """Return the line of Python with which another program asks the same servers."""
        for name in MODULES:
            self._socket(name)
        return (
            f"import sys; sys.path.append({str(ROOT)!r}); "
            f"from tests.support.warm_workers import ask; ask({str(self._folder)!r})\n"
        )

    def _socket(self, name: str) -> Path:
        """Return the socket of a server that is there, or starts now; workers may need that of HDF5 files."""
        for needed in dict.fromkeys(("hdf5", name)):
            if needed not in self._servers:
                self._servers[needed] = self._start(needed)
        return self._folder / name

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(self._folder / name), *MODULES[name]], start_new_session=True,
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


def ask(folder: str) -> None:
    """Let the servers whose sockets are in a folder, now or later, fork this program's workers and other children."""
    def command(target: Target, runtime: str) -> Sequence[str]:
        socket = Path(folder) / SERVERS.get(runtime, "none")
        return client_command(socket) if socket.exists() else REAL_COMMAND(target, runtime)

    def child_command(name: str, *arguments: str) -> list[str] | None:
        socket = Path(folder) / CHILDREN.get(name, "none")
        return [*client_command(socket), name, *arguments] if socket.exists() else None

    Target.command = command  # type: ignore[method-assign]
    child.script_command, child.module_command = child_commands(child_command)


def child_commands(forked: Callable[..., list[str] | None]) -> tuple[Callable[..., list[str]], ...]:
    """Return what stands for `script_command` and `module_command`: those that are forked, and the real ones else."""
    return (
        lambda name, *arguments: forked(name, *arguments) or REAL_SCRIPT(name, *arguments),
        lambda name, *arguments: forked(name, *arguments) or REAL_MODULE(name, *arguments),
    )


def _read_at_start() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items()
        if name.startswith(READ_AT_START) and not name.startswith(ABOUT_THE_LOG)
    }
