"""Every error edgeship raises on purpose, and the exit code each one ends the command with.

    EdgeshipError
    ├── InputError             exit 2   the input or the usage is wrong
    │   ├── ConfigError                 an unknown key, a value of the wrong type or out of range
    │   ├── DataError                   images or labels: missing, undecodable, NaN, not matching
    │   ├── ModelError                  the float model: NaN weights, logits, no such factory
    │   ├── LoweringError               a composite layer that cannot become standard layers
    │   ├── BundleError                 the bundle: a missing or altered file, another schema
    │   └── ArtifactError               a .tflite or .onnx that is broken or not what it says it is
    ├── StorageError           exit 2   a file could not be written (full disk, no permission)
    ├── ExportError            exit 1   an artifact came out of the converter breaking a promise (a float op ...)
    ├── RuntimeFailure         exit 1   a runtime crashed, hung or answered nonsense (a row, not the run's end)
    │   ├── ParityFailure      exit 1   its golden outputs are not those of the export
    │   └── TargetFailure      exit 4   the target, not the artifact: not there, no space, the link cut (a row too)
    └── RefusedError           exit 4   the target or the comparison is not fit

Whatever else is raised is a fault of edgeship (exit 70, as sysexits.h has it): never 1, which says that a gate failed.
A message names the file or key, what was expected, what was found, and what to do.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

PASS, FAILED, USAGE, INCONCLUSIVE, REFUSED, FAULT, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130
# What Keras and TensorFlow put into their messages for terminals and for themselves: bold type, names of functions.
MARKS = re.compile(r"\x1b\[[0-9;]*m|\{\{function_node [^}]*\}\} ?")
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# HDF5 and TensorFlow give the system's reason as text alone.
FULL_DISK_TEXTS = ("No space left on device", "errno = 28", "Disk quota exceeded", "File too large")


class EdgeshipError(Exception):
    """Base of every error edgeship raises on purpose."""

    exit_code = FAILED


class InputError(EdgeshipError):
    """The input or the usage is wrong."""

    exit_code = USAGE


class ConfigError(InputError):
    """The configuration: an unknown key, a wrong type, a value out of range."""


class DataError(InputError):
    """Images or labels: missing, undecodable, NaN, not matching."""


class ModelError(InputError):
    """The float model cannot be used: NaN weights, logits instead of probabilities, no such factory."""


class LoweringError(InputError):
    """A composite layer cannot be turned into standard layers."""


class BundleError(InputError):
    """The bundle folder: a missing or altered file, another schema."""


class ArtifactError(InputError):
    """A .tflite or .onnx file that is broken, or not what it says it is."""


class StorageError(EdgeshipError):
    """A file could not be written."""

    exit_code = USAGE


class ExportError(EdgeshipError):
    """A converter's output breaks a promise edgeship makes about its artifacts."""


class RuntimeFailure(EdgeshipError):
    """A runtime crashed, hung, or answered nonsense."""


class ParityFailure(RuntimeFailure):
    """An artifact's golden outputs are not those that the export kept."""


class TargetFailure(RuntimeFailure):
    """A target is not fit, whatever the artifact is: not there, no space, its runtime missing, the link cut."""

    exit_code = REFUSED


class RefusedError(EdgeshipError):
    """The target or the comparison is not fit for a verdict."""

    exit_code = REFUSED


def is_full_disk(error: BaseException) -> bool:
    """Did a full disk cause it, whatever library says so, and whatever became of its error on the way?"""
    return any(
        getattr(cause, "errno", None) in FULL_DISK or any(text in str(cause) for text in FULL_DISK_TEXTS)
        for cause in _causes(error)
    )


def in_one_line(error: BaseException) -> str:
    """A foreign error in few words: its type and the first line that says something."""
    lines = [line.strip() for line in MARKS.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # Keras puts the layer first, and the reason below it.
    about = re.match(r"Exception encountered when calling (.*?)\.?$", lines[0])
    text = f"{lines[1]} ({about[1]})" if about and len(lines) > 1 else lines[0]
    return f"{type(error).__name__}: {text[:300]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
