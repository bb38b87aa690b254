"""A small file system that can be filled: what a full disk does, without filling one."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

FILLER = "filler"


@contextlib.contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[Path]:
    """A folder on a file system of its own. Raises PermissionError where none may be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(disk)], capture_output=True, text=True,
        check=False,
    )
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Take all the room that is left."""
    with contextlib.suppress(OSError), (disk / FILLER).open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def make_room(disk: Path) -> None:
    """Give it back."""
    (disk / FILLER).unlink()


def why_not() -> str | None:
    """Why there can be no small disk here; None: there can."""
    try:
        with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), size_bytes=4096):
            return None
    except OSError as error:
        return f"no small file system may be mounted here, to fill it ({error})"
