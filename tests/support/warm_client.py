"""`python -I -S warm_client.py SOCKET [PROGRAM ...]`: stand for a process that a server forks, and end as it ends.

PROGRAM is a module or a script, with its arguments; without it the process is a worker.
"""

import json
import os
import resource
import signal
import socket
import sys


def main(path: str, program: list[str]) -> None:
    """Hand the standard streams over, wait, and end with the same exit code or by the same signal."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(path)
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes longer than all this
    request = {"environment": dict(os.environ), "folder": folder, "program": program}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    os.close(0)
    os.close(1)  # else it would seem open after the worker's end; standard error stays, for what goes wrong here
    status = server.recv(4)
    if not status:
        sys.exit("the server of warm workers ended")
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "little"))
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main(sys.argv[1], sys.argv[2:])
