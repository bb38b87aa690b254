"""A baseline: the artifacts themselves, and what they took, in a folder that a repository can keep.

    baselines/NAME/
        int8-qat.tflite     the artifact, byte for byte: a later artifact is compared by running both
        baseline.json       Baseline: hashes, protocol, environment, raw samples of every session

The times alone can only raise suspicion (see stored.py); the artifact decides.

Schema history of `baseline.json`:
    1   first version
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.core.artifact import ARTIFACT_FORMATS, TensorSpec
from edgeship.core.comparison import CPU_TIME, WALL_TIME, Side
from edgeship.core.decode import read_record
from edgeship.core.encode import encode
from edgeship.core.errors import InputError
from edgeship.core.files import sha256_of_file

BASELINE_SCHEMA = 1
BASELINE_FILE = "baseline.json"
# A plain name on every system: no folder, no drive, nothing hidden.
PLAIN_NAME = re.compile(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]*")
STATE_NUMBERS = ("battery_percent", "cpu_pressure_percent", "load_average_1min", "steal_share")


@dataclass(frozen=True, kw_only=True)
class StoredArtifact:
    """One artifact in the folder."""

    name: str  # what a candidate is matched by, for example "int8-qat.tflite"
    file: str  # in the folder
    sha256: str
    size_bytes: int
    format: str  # "tflite", "onnx" or "ort"
    operations: dict[str, int] | None  # a key of schema 1 that nobody reads; edgeship writes null
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How it was timed. Sessions of one protocol can be put beside each other."""

    metric: str  # "cpu_time" or "wall_time"
    threads: int
    cpus: tuple[int, ...]  # one of them was drawn for each launch; empty: not bound
    rounds: int  # per launch
    inferences_per_round: int
    warmup_runs: int


@dataclass(frozen=True, kw_only=True)
class StoredLaunch:
    """The artifact in one fresh process."""

    core: int | None
    canary_ns: int | None  # what a fixed piece of work took just before
    side: Side


@dataclass(frozen=True, kw_only=True)
class Session:
    """Launches made one after the other. What differs between sessions differs between days."""

    created_at: str  # ISO 8601, UTC
    state_before: dict[str, Any] | None  # environment.state
    state_after: dict[str, Any] | None
    launches: tuple[StoredLaunch, ...]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One artifact on one runtime in one environment by one protocol."""

    artifact_sha256: str
    runtime: str
    target: str  # as it was called then
    protocol: Protocol
    fingerprint: dict[str, Any]  # environment.fingerprint
    sessions: tuple[Session, ...]

    def continues(self, other: Recording) -> bool:
        """Whether both may be one recording: what times depend on is equal."""
        return (
            (self.artifact_sha256, self.runtime, self.protocol)
            == (other.artifact_sha256, other.runtime, other.protocol)
            and self.fingerprint["must_match"] == other.fingerprint["must_match"]
        )


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """`baseline.json`."""

    schema: int
    created_by: str  # "edgeship 0.1.0"
    created_at: str  # ISO 8601, UTC
    commit: str | None  # of the repository it was made in
    artifacts: tuple[StoredArtifact, ...]
    recordings: tuple[Recording, ...]  # none: the artifacts only


def artifact_of(
    path: Path,
    *,
    name: str | None = None,
    inputs: tuple[TensorSpec, ...] = (),
    outputs: tuple[TensorSpec, ...] = (),
) -> StoredArtifact:
    """What a baseline says of the artifact `path`; it keeps its file name, and is called so if it has no other name.

    Raises:
        InputError: it cannot be read, or is of no format that runs on a device.
    """
    try:
        size_bytes, digest = path.stat().st_size, sha256_of_file(path)
    except OSError as error:
        raise InputError(
            f"{path}: expected a .tflite, .onnx or .ort file, found none that can be read "
            f"({error.strerror or error}); check the path"
        ) from error
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in ARTIFACT_FORMATS:
        raise InputError(f"{path}: expected a .tflite, .onnx or .ort file, found the suffix {path.suffix!r}; rename it")
    return StoredArtifact(
        name=name or path.name, file=path.name, sha256=digest, size_bytes=size_bytes, format=suffix,
        operations=None, inputs=inputs, outputs=outputs,
    )


def merge(old: Baseline, new: Baseline) -> Baseline:
    """The old baseline with the new one's sessions. Both have the same artifacts, maybe under other names."""
    recordings = list(old.recordings)
    for recording in new.recordings:
        place = next((index for index, item in enumerate(recordings) if item.continues(recording)), None)
        if place is None:
            recordings.append(recording)
        else:
            sessions = (*recordings[place].sessions, *recording.sessions)
            recordings[place] = dataclasses.replace(recordings[place], sessions=sessions)
    return dataclasses.replace(old, recordings=tuple(recordings))


def find_recording(
    baseline: Baseline, *, artifact_sha256: str, runtime: str, fingerprint: Mapping[str, Any]
) -> Recording | None:
    """The recording that another session here would continue: make it by the same protocol. None: there is none.

    Of several, by different protocols, the one with the most sessions.
    """
    found = [
        item for item in baseline.recordings
        if (item.artifact_sha256, item.runtime) == (artifact_sha256, runtime)
        and item.fingerprint["must_match"] == fingerprint["must_match"]
    ]
    return max(found, key=lambda item: len(item.sessions), default=None)


def baseline_to_json(baseline: Baseline) -> str:
    """JSON text; a repository shows a session as a few lines."""
    return encode(baseline)


def baseline_from_json(text: str, *, where: Path) -> Baseline:
    """Read a baseline; `where` is named in messages.

    Raises:
        InputError: not JSON, another schema version, a value of the wrong form, a file name that is none.
    """
    return read_record(
        Baseline, text, where=where, schema=BASELINE_SCHEMA, what="baseline", again="save the baseline again",
        check=check,
    )


def check(baseline: Baseline) -> None:
    """That its parts fit together, which types do not say. Raises ValueError."""
    if not baseline.artifacts:
        raise ValueError("artifacts: expected one at least, found none")
    for key in ("name", "file", "sha256"):
        values = [getattr(item, key).casefold() for item in baseline.artifacts]  # as some file systems compare
        if len(set(values)) < len(values):
            raise ValueError(f"artifacts: expected different values of {key}, found {', '.join(values)}")
    for artifact in baseline.artifacts:
        if not PLAIN_NAME.fullmatch(artifact.file):
            raise ValueError(f"artifact {artifact.name}: its file {artifact.file!r} is not a name inside the folder")
        suffix = Path(artifact.file).suffix.lower().removeprefix(".")
        if artifact.format not in ARTIFACT_FORMATS or suffix != artifact.format:
            raise ValueError(f"artifact {artifact.name}: its file {artifact.file!r} is not of {artifact.format!r}")
    hashes = {artifact.sha256 for artifact in baseline.artifacts}
    for index, recording in enumerate(baseline.recordings):
        if recording.artifact_sha256 not in hashes:
            raise ValueError(f"recordings[{index}]: it is of none of the artifacts")
        _check_recording(recording, f"recordings[{index}]")


def _check_recording(recording: Recording, where: str) -> None:
    protocol, must_match = recording.protocol, recording.fingerprint.get("must_match")
    if protocol.metric not in (CPU_TIME, WALL_TIME):
        raise ValueError(f"{where}: metric: expected {CPU_TIME} or {WALL_TIME}, found {protocol.metric!r}")
    if not isinstance(must_match, dict):
        raise ValueError(f"{where}: fingerprint: the key 'must_match' is missing")
    flags = recording.fingerprint.get("cpu_flags") or []
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        raise ValueError(f"{where}: fingerprint: cpu_flags: expected a list of texts")
    if not recording.sessions:
        raise ValueError(f"{where}: expected a session at least, found none")
    for number, session in enumerate(recording.sessions):
        for state in (session.state_before, session.state_after):
            _check_state(state or {}, f"{where}.sessions[{number}]")
        for launch in session.launches:
            gated = launch.side.cpu_ns if protocol.metric == CPU_TIME else launch.side.wall_ns
            times_ns = (*launch.side.wall_ns, *launch.side.cpu_ns)
            if not gated or min(times_ns) <= 0:
                raise ValueError(f"{where}.sessions[{number}]: expected times above 0, of {protocol.metric} too")
            if launch.canary_ns is not None and launch.canary_ns <= 0:
                raise ValueError(f"{where}.sessions[{number}]: canary_ns: expected above 0, found {launch.canary_ns}")


def _check_state(state: Mapping[str, Any], where: str) -> None:
    """What a session is judged fit by must be numbers, where it is told."""
    for key in STATE_NUMBERS:
        value = state.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{where}: {key}: expected a number, found {json.dumps(value)[:40]}")
