"""An HDF5 file from outside, opened by a child process; what comes back is a copy that holds plain data alone."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from edgeship.core import child
from edgeship.core.errors import ModelError, StorageError
from edgeship.core.signals import signal_name
from edgeship.model import hdf5_copy

# The child bounds its own time on the processor; this one ends a child that waits for ever.
TIMEOUT_SECONDS = 1800.0
MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Does the file start as HDF5 files do? (The format allows other bytes before it; Keras writes none.)"""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def plain_copy(path: Path, target: Path, *, where: Path) -> None:
    """Copy the groups, numbers and texts of `path` to `target`; `where` is what messages name.

    Raises:
        ModelError: damaged, links or numbers that lie elsewhere, compressed numbers, more than numbers and texts; a
            file that crashes or hangs the HDF5 library.
        StorageError: no room for the copy.
    """
    # Each thread of OpenBLAS would take its share of the address space that the child allows itself.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = child.script_command(str(hdf5_copy.__file__), str(path), str(target))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_SECONDS, check=False, env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{where}: the HDF5 in it is not as tf_keras writes it (the HDF5 library was not done with it after "
            f"{TIMEOUT_SECONDS:.0f} s); save it again"
        ) from error
    if done.returncode == 0:
        return
    if done.returncode == hdf5_copy.NOT_WRITTEN:
        reason = done.stdout.strip()
        raise StorageError(f"{target}: the copy of {where} could not be written ({reason}); free some space")
    if done.returncode == hdf5_copy.REFUSED:
        reason = done.stdout.strip()[:500]
    elif done.returncode == -signal.SIGXCPU:
        reason = "the HDF5 library did not come to an end with it"
    elif done.returncode < 0:
        reason = f"the HDF5 library crashed on it with {signal_name(-done.returncode)}"
    else:
        reason = f"it could not be read: {done.stderr.strip().rpartition(chr(10))[2][:500]}"
    raise ModelError(f"{where}: the HDF5 in it is not as tf_keras writes it ({reason}); save it again")
