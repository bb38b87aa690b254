"""Keeping native libraries' start-up notices out of our output."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_native_output() -> Iterator[None]:
    """Hold back what native code writes to standard output and error; it is shown if the block raises.

    TensorFlow 2.21 and LiteRT print notices ("no GPU", "created delegate") before any log level is read, so the
    file descriptors themselves are turned away.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = [os.dup(1), os.dup(2)]
        try:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            yield
        except BaseException:
            _restore(saved)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            _restore(saved)


def _restore(saved: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    while saved:
        descriptor = saved.pop()
        os.dup2(descriptor, 1 + len(saved))
        os.close(descriptor)
