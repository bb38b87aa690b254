"""Writing files whole or not at all, and naming them by content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from edgeship.core.errors import EdgeshipError, StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never half of one.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); "
            f"{len(content):,} bytes were needed; free some space or choose another --out folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # already renamed, or its folder never came to be
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused, since JSON has neither."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_text(
    path: Path, *, expected: str, advice: str, error: type[EdgeshipError], most_bytes: int | None = None
) -> str:
    """Return the text of a file that must be there.

    Args:
        expected: what the file is, for the message: "a report.json".
        advice: what to do where it cannot be read.
        error: the error that the caller promises.
        most_bytes: a larger file is not read.

    Raises:
        EdgeshipError: of the type `error`: no such file, no permission, too large, not UTF-8.
    """
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise error(f"{path}: expected at most {most_bytes:,} bytes; this is not {expected}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        raise error(f"{path}: expected {expected}, found none that can be read ({reason}); {advice}") from reason


def sha256_of_bytes(content: bytes) -> str:
    """The hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in pieces.

    Raises:
        OSError: it cannot be read; also for a device or a pipe, which might never end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """The hexadecimal SHA-256 of `value` in a canonical JSON form (sorted keys, no spaces)."""
    return sha256_of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
