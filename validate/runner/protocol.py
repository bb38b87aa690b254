"""The runner's protocol: one line of JSON per request and per answer, and the hashes of the files that go with them.

A request is a line on standard input, `{"do": "load" | "run" | "time" | ..., ...}`. Each answer is a line on standard
output: `{"ok": {...}}`, `{"progress": images_done}`, or `{"error": {"type", "message"}}`, after which the process
ends: a runtime that failed once is not asked again. Arrays travel as .npy files, whose hashes travel in the lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, TextIO  # noqa: UP035  (Python 3.9 on boards)

Send = Callable[[dict[str, Any]], None]  # writes one answer


class AlteredInTransit(Exception):
    """A file is not the one that was sent."""


def serve(requests: TextIO, answers: TextIO, open_session: Callable[[Send], Any]) -> None:
    """Answer requests until there are none: `{"do": "x"}` by the session's method `do_x`."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    session = open_session(send)
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(session, f"do_{request.pop('do')}")(**request)
        except BaseException as error:
            in_one_line = str(error).strip().split("\n", 1)[0]
            send({"error": {"type": type(error).__name__, "message": in_one_line}})
            raise  # the whole traceback goes to standard error, and the process ends
        send({"ok": answer})


def serve_pipes(open_session: Callable[[Send], Any]) -> None:
    """Keep the two pipes for the protocol: native runtimes print wherever they like."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(requests, answers, open_session)


def sha256_of(path: str) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def require_hash(path: str, *, found: str, expected: str) -> None:
    """Check that a file is the one that was sent. Raises AlteredInTransit."""
    if found != expected:
        raise AlteredInTransit(f"{Path(path).name}: expected SHA-256 {expected}, found {found}")


def check_arrival(path: str, expected: str | None) -> None:
    """Check a file that was sent with its hash; without one it was made here. Raises AlteredInTransit."""
    if expected is not None:
        require_hash(path, found=sha256_of(path), expected=expected)
