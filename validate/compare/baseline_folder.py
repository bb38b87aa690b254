"""Baselines on disk: written whole or not at all, checked before they are used."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeship.core.artifact import ARTIFACT_FORMATS
from edgeship.core.errors import InputError, StorageError
from edgeship.core.files import read_text, sha256_of_bytes, sha256_of_file, write_atomically
from edgeship.validate.compare.baseline import (
    BASELINE_FILE,
    Baseline,
    StoredArtifact,
    baseline_from_json,
    baseline_to_json,
    check,
    merge,
)

MAX_RECORD_BYTES = 256 << 20  # ten thousand sessions; a larger file is not ours


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One folder of a folder of baselines; `problem` where it cannot be used."""

    name: str
    baseline: Baseline | None
    problem: str | None


def save_baseline(
    folder: Path, baseline: Baseline, sources: Mapping[str, Path], *, replace: bool = False
) -> Baseline:
    """Write the baseline and its artifacts to `folder`; what is there afterwards.

    Where there is a baseline of the same artifacts already, its sessions are kept and these are added.

    Args:
        sources: where each artifact is now, by its name.
        replace: another baseline in the folder makes way.

    Raises:
        InputError: a baseline of other artifacts is there, or something that is no baseline; an artifact is not the
            one that was measured.
        StorageError: the disk is full, or the folder cannot be written to; what was there is untouched.
    """
    try:
        check(baseline)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    if not replace and (folder / BASELINE_FILE).exists():
        old = load_baseline(folder)
        _require_same_artifacts(folder, old, baseline)
        merged = merge(old, baseline)
        write_atomically(folder / BASELINE_FILE, baseline_to_json(merged).encode())
        return merged
    _require_ours(folder)
    _write_folder(folder, baseline, sources)
    return baseline


def load_baseline(folder: Path) -> Baseline:
    """Read `folder/baseline.json` and check the artifacts beside it.

    Raises:
        InputError: no baseline there, of another schema, damaged; an artifact that is missing or another one.
    """
    path = folder / BASELINE_FILE
    text = read_text(
        path, expected="a baseline's record", advice="name the folder that `edgeship baseline save` wrote",
        error=InputError, most_bytes=MAX_RECORD_BYTES,
    )
    baseline = baseline_from_json(text, where=path)
    for artifact in baseline.artifacts:
        _check_file(folder / artifact.file, artifact)
    return baseline


def list_baselines(folder: Path) -> tuple[Listed, ...]:
    """The baselines in a folder, by name, those that cannot be used too.

    Raises:
        InputError: there is no such folder.
    """
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder}: expected a folder of baselines, found none that can be read ({error.strerror or error}); "
            "`edgeship baseline save` makes one"
        ) from error
    listed = []
    for path in inside:
        if not (path / BASELINE_FILE).exists():
            continue
        try:
            listed.append(Listed(name=path.name, baseline=load_baseline(path), problem=None))
        except InputError as error:
            listed.append(Listed(name=path.name, baseline=None, problem=str(error)))
    return tuple(listed)


def _require_same_artifacts(folder: Path, old: Baseline, new: Baseline) -> None:
    """By content: a file that was only renamed is the same artifact."""
    kept = {artifact.sha256: artifact.name for artifact in old.artifacts}
    given = {artifact.sha256: artifact.name for artifact in new.artifacts}
    if set(kept) != set(given):
        raise InputError(
            f"{folder}: expected a baseline of {_named(given)}, found one of {_named(kept)} made {old.created_at}; "
            "save under another name, or replace it with --replace"
        )


def _require_ours(folder: Path) -> None:
    """A folder that is replaced holds nothing but a baseline: whatever else is in it would be lost."""
    if not folder.exists():
        return
    try:
        inside = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: expected a folder, or nothing yet ({error.strerror}); choose another") from error
    foreign = [name for name in inside if name != BASELINE_FILE and not _is_artifact(folder / name)]
    if foreign or (inside and BASELINE_FILE not in inside):
        raise InputError(
            f"{folder}: expected a baseline or an empty folder, found {', '.join((foreign or inside)[:3])} in it; "
            "choose another name"
        )


def _is_artifact(path: Path) -> bool:
    return path.is_file() and path.suffix.lower().removeprefix(".") in ARTIFACT_FORMATS


def _write_folder(folder: Path, baseline: Baseline, sources: Mapping[str, Path]) -> None:
    """Write a folder beside it, then rename: a reader sees the old baseline, the new one or (for an instant) none."""
    target = folder.resolve()
    work = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    try:
        work.mkdir(parents=True)
        for artifact in baseline.artifacts:
            write_atomically(work / artifact.file, _content(sources[artifact.name], artifact))
        write_atomically(work / BASELINE_FILE, baseline_to_json(baseline).encode())
        if target.exists():
            target.rename(aside)
        try:
            work.rename(target)
        except BaseException:  # Ctrl-C too: the old one goes back
            if aside.exists():
                aside.rename(target)
            raise
    except OSError as error:
        raise StorageError(
            f"{folder}: could not be written ({error.strerror or error}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if target.exists():  # otherwise it is all that is left
            shutil.rmtree(aside, ignore_errors=True)


def _content(path: Path, artifact: StoredArtifact) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: could not be read ({error.strerror or error}); check the path") from error
    found = sha256_of_bytes(content)
    if found != artifact.sha256:
        raise InputError(
            f"{path}: changed while it was measured: expected SHA-256 {artifact.sha256}, found {found}; measure again"
        )
    return content


def _check_file(path: Path, artifact: StoredArtifact) -> None:
    """The size first: what is too large need not be read to be another file."""
    advice = "if the repository keeps it in Git LFS, `git lfs pull`; otherwise save the baseline again"
    try:
        # A link would lead out of the folder, and a pipe or a device has no end.
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: expected the artifact as a plain file, found none; {advice}")
        size_bytes = path.stat().st_size
        found = sha256_of_file(path) if size_bytes == artifact.size_bytes else f"{size_bytes:,} bytes"
    except OSError as error:
        raise InputError(f"{path}: could not be read ({error.strerror or error}); {advice}") from error
    if found != artifact.sha256:
        raise InputError(
            f"{path}: not the artifact that was saved: expected SHA-256 {artifact.sha256} "
            f"({artifact.size_bytes:,} bytes), found {found}; {advice}"
        )


def _named(artifacts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({digest[:12]})" for digest, name in artifacts.items())
