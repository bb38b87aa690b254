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

A message names the file or key, what was expected, what was found, and what to do.
"""

from __future__ import annotations

PASS, FAILED, USAGE, INCONCLUSIVE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


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
