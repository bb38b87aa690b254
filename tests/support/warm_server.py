"""`python warm_server.py SOCKET MODULE ...`: import modules, compute nothing, and fork a process for each client.

A client sends a JSON object of its environment, folder and program (a module or a script with its arguments; none: a
worker), with its three standard streams, and gets the exit status of the fork, as `waitpid` gives it. A client that
goes away takes its fork with it; the server ends, and every fork with it, when its standard input is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import edgeship.validate.runner.examples
import edgeship.validate.runner.session  # noqa: F401
from edgeship.core.collector import collect_less_often
from tests.support.warm_workers import ask

WORKER = "edgeship.validate.process.worker"
MESSAGE_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(path: str) -> dict[str, Any]:
    """Answer clients until standard input is closed; return, in each fork, what its client has sent."""
    if "Threads:\t1\n" not in Path("/proc/self/status").read_text():
        raise RuntimeError("expected one thread after the imports: a process of several threads cannot fork safely")
    gc.freeze()  # else a collection in a fork copies every page that it looks at
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([0, listener], [], [])
        if 0 in ready:
            sys.exit()
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # of keepers that have ended nothing is asked
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return keep(client)
        client.close()


def keep(client: socket.socket) -> dict[str, Any]:
    """Fork a worker and tell the client how it ended; return in the worker alone."""
    ends_with_parent()
    message, streams, _, _ = socket.recv_fds(client, MESSAGE_BYTES, 3)
    if not message:  # it was killed before it asked
        os._exit(0)
    request: dict[str, Any] = json.loads(message)
    worker = os.fork()
    if worker == 0:
        ends_with_parent()
        client.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["folder"])
        return request
    for stream in (0, 1, 2, *streams):  # else a pipe would seem open after the worker's end
        os.close(stream)
    ended = os.pidfd_open(worker)
    if client in select.select([ended, client], [], [])[0]:
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    client.send(status.to_bytes(4, "little"))
    os._exit(0)


def ends_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(name: str, *arguments: str) -> None:
    """Run a module or a script as the program, and end as it ends."""
    sys.argv[:] = [name, *arguments]
    code = 0
    try:
        if name.endswith(".py"):
            runpy.run_path(name, run_name="__main__")
        else:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # the interpreter would let go of all of TensorFlow piece by piece, which takes as long as the rest


if __name__ == "__main__":
    collect_less_often()
    for module in sys.argv[2:]:
        importlib.import_module(module)
    ask(str(Path(sys.argv[1]).parent))  # a worker's own children are forked too
    request = serve(sys.argv[1])
    os.environ.update(found := request["environment"])
    for name in set(os.environ) - set(found):
        del os.environ[name]
    # `-P -m` and PYTHONPATH: what the path of a fresh process begins with.
    own = [entry for entry in found.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = list(dict.fromkeys([*own, *sys.path]))
    run(*(request["program"] or [WORKER]))
