"""Sessions and baselines of given times, for tests that need no clock."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.core.comparison import Side
from edgeship.validate.compare.baseline import (
    BASELINE_SCHEMA,
    Baseline,
    Protocol,
    Recording,
    Session,
    StoredLaunch,
    artifact_of,
)

PROTOCOL = Protocol(metric="cpu_time", threads=1, cpus=(0, 1), rounds=1, inferences_per_round=1, warmup_runs=3)
QUIET = {"cpu_pressure_percent": 0.5, "load_average_1min": 0.2, "throttled": None, "battery_percent": None}
FINGERPRINT: dict[str, Any] = {
    "must_match": {"cpu_model": "Cortex-A76", "kernel": "6.6", "threads": 1}, "recorded": {"hostname": "pi"},
    "cpu_model": "Cortex-A76", "cpu_flags": ["asimd", "asimddp"],
}
MILLISECOND_NS = 1e6


def session(log_times: Sequence[float] = (0.0,) * 6, *, canary_ns: int | None = 500_000, **changes: Any) -> Session:
    """One whose launches took exp(log time) milliseconds."""
    launches = tuple(
        StoredLaunch(core=0, canary_ns=canary_ns, side=Side(
            wall_ns=(time_ns * 1.3,), cpu_ns=(time_ns,), load_ms=4.5, first_ms=None, involuntary_switches=2,
        ))
        for time_ns in (math.exp(value) * MILLISECOND_NS for value in log_times)
    )
    default = Session(created_at="2026-08-01T10:00:00+00:00", state_before=QUIET, state_after=QUIET, launches=launches)
    return dataclasses.replace(default, **changes)


def recording(*sessions: Session, artifact_sha256: str = "0" * 64, **changes: Any) -> Recording:
    """Of these sessions."""
    default = Recording(
        artifact_sha256=artifact_sha256, runtime="litert", target="cpu", protocol=PROTOCOL, fingerprint=FINGERPRINT,
        sessions=sessions or (session(),),
    )
    return dataclasses.replace(default, **changes)


def baseline(path: Path, *recordings: Recording, **changes: Any) -> Baseline:
    """Of one artifact; the recordings are made its own."""
    artifact = artifact_of(path)
    default = Baseline(
        schema=BASELINE_SCHEMA, created_by="edgeship test", created_at="2026-08-01T10:00:00+00:00", commit=None,
        artifacts=(artifact,),
        recordings=tuple(dataclasses.replace(item, artifact_sha256=artifact.sha256) for item in recordings),
    )
    return dataclasses.replace(default, **changes)
