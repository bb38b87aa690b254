"""Sessions: one artifact alone, timed for a baseline, or to be held against one first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeship.core.artifact import TensorSpec
from edgeship.core.comparison import REFUSED
from edgeship.core.config import ValidateConfig
from edgeship.core.errors import InputError, RefusedError, RuntimeFailure
from edgeship.core.version import __version__
from edgeship.validate.compare.arms import Pair, Pairs, save_example
from edgeship.validate.compare.baseline import (
    BASELINE_SCHEMA,
    Baseline,
    Protocol,
    Recording,
    Session,
    StoredArtifact,
    artifact_of,
    find_recording,
)
from edgeship.validate.compare.check import First, contender
from edgeship.validate.compare.environment import differences, refusals, state
from edgeship.validate.compare.place import Place, place_of
from edgeship.validate.compare.recording import choose_protocol, record
from edgeship.validate.compare.run import checked_out_commit, runtimes_for
from edgeship.validate.compare.settings import Settings
from edgeship.validate.compare.stored import SUSPECT, compare_stored
from edgeship.validate.compare.timing import Timed
from edgeship.validate.runner.table import RUNTIMES
from edgeship.validate.targets.table import make_target
from edgeship.validate.timing.summary import CANDIDATE


def record_session(
    pair: Pair,
    path: Path,
    place: Place,
    settings: Settings,
    inputs: Sequence[Path],
    *,
    arm: str,
    protocol: Protocol | None = None,
) -> Recording:
    """Time the file `path` in a session of launches.

    Args:
        protocol: of the recording that it will be put beside; None: what the pilot finds.

    Raises:
        ArmFailed: it does not run there.
        TargetFailure: the target was lost.
    """
    bench, before = place.bench(settings), state(place.target)
    there = contender(pair, place, path, arm=arm, inputs=inputs)
    chosen = protocol or choose_protocol(there, bench, seed=settings.seed)
    launches = record(there, bench, chosen, seed=settings.seed)
    session = Session(
        created_at=_now(), state_before=before, state_after=state(place.target, since=before), launches=launches
    )
    return Recording(
        artifact_sha256=pair.arm(path).sha256, runtime=place.runtime, target=place.target.name, protocol=chosen,
        fingerprint=place.fingerprint(threads=settings.threads), sessions=(session,),
    )


def make_baseline(
    found: Pairs, settings: Settings, config: ValidateConfig, *, runtimes: tuple[str, ...] = (), old: Baseline | None
) -> tuple[Baseline, dict[str, Path]]:
    """A baseline of the artifacts in `found` (each paired with itself), and where each file is.

    Args:
        old: the baseline that is there already: sessions follow its protocol, so that they can be put beside its own.

    Raises:
        ArmFailed, TargetFailure: an artifact that does not run, a target that is not there.
        RefusedError: a target in a state that forbids timing.
    """
    artifacts = [_stored_artifact(pair) for pair in found.pairs]
    recordings: list[Recording] = []
    with tempfile.TemporaryDirectory(prefix="edgeship-baseline-") as folder:
        for name in config.targets if settings.timing else ():
            with make_target(name, config) as target:
                if not target.measures_time:
                    raise InputError(f"--on {name}: an emulator's time is no device's, so there is nothing to keep")
                if reasons := refusals(state(target)):
                    raise RefusedError(f"{target.name}: {'; '.join(reasons)}")
                for pair in found.pairs:
                    inputs = save_example(Path(folder), "input", pair.example(_inputs_of(pair)))
                    for runtime in runtimes_for(target, pair, runtimes):
                        place = place_of(target, runtime, settings)
                        recordings.append(record_session(
                            pair, pair.baseline, place, settings, inputs, arm="baseline",
                            protocol=_protocol(old, pair, place, settings),
                        ))
    baseline = Baseline(
        schema=BASELINE_SCHEMA, created_by=f"edgeship {__version__}", created_at=_now(),
        commit=checked_out_commit(), artifacts=tuple(artifacts), recordings=tuple(recordings),
    )
    return baseline, {artifact.name: pair.baseline for artifact, pair in zip(artifacts, found.pairs, strict=True)}


def stored_first(baseline: Baseline, settings: Settings, *, dedicated: bool) -> First:
    """Hold a candidate against the stored times before both artifacts are run. They can clear it or be suspicious."""

    def ask(pair: Pair, place: Place, inputs: Sequence[Path]) -> Timed:
        digest, own_fingerprint = pair.arm(pair.baseline).sha256, place.fingerprint(threads=settings.threads)
        recording = find_recording(
            baseline, artifact_sha256=digest, runtime=place.runtime, fingerprint=own_fingerprint
        )
        if recording is None:
            return Timed(verdict=REFUSED, reasons=_why_not(baseline, digest, place, own_fingerprint))
        try:
            own = record_session(
                pair, pair.candidate, place, settings, inputs, arm=CANDIDATE, protocol=recording.protocol
            )
        except RuntimeFailure as error:  # the paired run will say whether the baseline fails as well
            return Timed(verdict=SUSPECT, reasons=(f"alone it failed: {error}",))
        limit = settings.thresholds(tool=RUNTIMES[place.runtime].tool)[1]
        found = compare_stored(recording, own, limit=limit, dedicated=dedicated)
        return Timed(verdict=found.verdict, reasons=tuple(f"stored times: {reason}" for reason in found.reasons))

    return ask


def _why_not(
    baseline: Baseline, digest: str, place: Place, own_fingerprint: dict[str, Any]
) -> tuple[str, ...]:
    """How the environment differs from the stored one that is most like it."""
    stored = [
        item for item in baseline.recordings if (item.artifact_sha256, item.runtime) == (digest, place.runtime)
    ]
    found = min((differences(item.fingerprint, own_fingerprint) for item in stored), key=len, default=None)
    if found is None:
        return (f"no stored times of {place.runtime}, so both artifacts were run",)
    return (f"the stored times are of another environment, so both artifacts were run: {'; '.join(found)}",)


def _stored_artifact(pair: Pair) -> StoredArtifact:
    return artifact_of(
        pair.baseline, name=pair.name, inputs=pair.inputs or (), outputs=pair.outputs or (),
    )


def _inputs_of(pair: Pair) -> tuple[TensorSpec, ...]:
    if pair.inputs is None:
        raise InputError(
            f"{pair.baseline}: what its inputs are can only be told by a bundle's manifest; save the bundle, or use "
            "--no-timing"
        )
    return pair.inputs


def _protocol(old: Baseline | None, pair: Pair, place: Place, settings: Settings) -> Protocol | None:
    if old is None:
        return None
    recording = find_recording(
        old, artifact_sha256=pair.arm(pair.baseline).sha256, runtime=place.runtime,
        fingerprint=place.fingerprint(threads=settings.threads),
    )
    return None if recording is None else recording.protocol


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
